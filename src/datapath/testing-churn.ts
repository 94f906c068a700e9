// Wires and cuts pods until it is killed: the child of the kill test. Each line is out before the deed, as a journal's
// record would be. Arguments: prefix of the namespaces, sysctl file, addresses.
import { writeSync } from 'node:fs';
import { formatIp, parseIp } from '../base/ip.ts';
import { openNetns } from '../kernel/netns.ts';
import { createDatapath } from './datapath.ts';
import { hostLinkName } from './marks.ts';
import { eni0, eni1, nodeState, quiet } from './testing.ts';

const [prefix, sysctlFile, ips] = process.argv.slice(2) as [string, string, string];
const say = (line: string) => writeSync(1, `${line}\n`);

say('start');
const netns = openNetns(`/run/netns/${prefix}node`);
const datapath = createDatapath({ netns, log: quiet, sysctlFile });
const addresses = ips.split(',').map(parseIp);
const sandboxes = addresses.map((_, i) => openNetns(`/run/netns/${prefix}pod-${i}`));
say('sync');
await datapath.syncNode(nodeState());
for (let turn = 0; ; turn++) {
  const names: string[] = [];
  addresses.forEach((ip, i) => {
    const containerId = `c${process.pid}-${turn}-${i}`;
    const hostIfname = hostLinkName({ network: 'podway', containerId, ifname: 'eth0' });
    say(`hold ${hostIfname} ${formatIp(ip)}`);
    datapath.wirePod({
      containerId,
      ifname: 'eth0',
      netns: sandboxes[i]!,
      netnsPath: sandboxes[i]!.path,
      ips: [ip],
      eni: i < 2 ? eni0 : eni1,
      mtu: 9001,
      hostIfname,
    });
    names.push(hostIfname);
  });
  say('wired');
  for (const hostIfname of names) {
    datapath.cutPod({ hostIfname });
    say(`release ${hostIfname}`);
  }
  const reaped = datapath.reapLinks();
  if (turn % 2 === 0) await reaped;
}
