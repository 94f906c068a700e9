// Namespaces, sysctls and sockets in them, against the kernel itself.
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { promisify } from 'node:util';
import {
  createAnonymousNetns,
  createNetns,
  currentNetns,
  deleteNetns,
  listNetns,
  NETNS_DIR,
  NetnsError,
  openNetns,
  withNetns,
} from './netns.ts';
import { RtNetlink } from './rtnetlink.ts';
import { listenTcpIn, netnsCookie } from './sockets.ts';
import { readSysctl, writeSysctl } from './sysctl.ts';
import { inFreshNetns, needsRoot } from './testing.ts';

const run = promisify(execFile);
const own = () => readlinkSync('/proc/thread-self/ns/net');
const openFiles = () => readdirSync('/proc/self/fd').length;
const name = `pwt-kernel-${process.pid}`;

describe('network namespaces', needsRoot, () => {
  after(() => deleteNetns(name));

  test('processes that make their first namespaces at once share one mount of the directory', () => {
    // In each round all make one at a common time, and then the first of them counts the mounts and takes them away.
    const make = `
      const [netns, first, index] = process.argv.slice(1);
      const { createNetns } = await import(netns);
      const { execFileSync } = await import('node:child_process');
      const { readFileSync } = await import('node:fs');
      const nobody = new Int32Array(new SharedArrayBuffer(4));
      const until = (at) => {
        Atomics.wait(nobody, 0, 0, Math.max(0, at - Date.now() - 2));
        while (Date.now() < at);
      };
      for (let round = 0; round < 10; round++) {
        until(Number(first) + round * 200);
        createNetns(round + '-' + index);
        if (index !== '1') continue;
        until(Number(first) + round * 200 + 100);
        console.log(readFileSync('/proc/self/mountinfo', 'utf8').split(' /run/netns ').length - 1);
        execFileSync('umount', ['--lazy', '--recursive', '/run/netns']);
      }`;
    const script = `
      umount --lazy --recursive /run/netns 2>/dev/null || true
      mount -t tmpfs tmpfs /run
      for one in 1 2 3 4; do ${process.execPath} --input-type=module -e "$MAKE" "$NETNS" "$FIRST" $one & done
      wait`;
    const told = execFileSync('unshare', ['--mount', 'sh', '-ec', script], {
      encoding: 'utf8',
      env: {
        ...process.env,
        ...{ MAKE: make, NETNS: join(import.meta.dirname, 'netns.ts'), FIRST: String(Date.now() + 3_000) },
      },
    });
    assert.equal(told, '1\n'.repeat(10));
  });

  test('a made one is listed, opened, seen by ip netns, and gone after deletion; the caller stays where it was', () => {
    const before = own();
    const files = openFiles();
    using made = createNetns(name);
    assert.equal(own(), before);
    assert.ok(listNetns().includes(name));
    assert.match(execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' }), new RegExp(name));
    using again = openNetns(`${NETNS_DIR}/${name}`);
    assert.equal(again.inode, made.inode);
    using here = currentNetns();
    assert.notEqual(again.inode, here.inode);
    assert.throws(() => createNetns(name), { name: 'NetnsError', code: 'EEXIST' });
    deleteNetns(name);
    deleteNetns(name);
    assert.ok(!listNetns().includes(name));
    for (const one of [made, again, here]) one.close();
    assert.ok(openFiles() <= files + 1, 'only the descriptor of the own namespace may stay open');
  });

  test('a stale plain file under the name is removed', () => {
    writeFileSync(`${NETNS_DIR}/${name}`, '');
    deleteNetns(name);
    assert.ok(!listNetns().includes(name));
  });

  test('what is no namespace is refused with its errno', () => {
    assert.throws(() => openNetns(`${NETNS_DIR}/pwt-there-is-none`), { name: 'NetnsError', code: 'ENOENT' });
    assert.throws(() => openNetns('/etc/hostname'), { name: 'NetnsError', code: 'EINVAL' });
    assert.throws(() => openNetns('/proc/self/ns/mnt'), { name: 'NetnsError', code: 'EINVAL' });
    // A FIFO without a writer: an open that waits would never come back.
    const dir = mkdtempSync(join(tmpdir(), 'pwt-netns-'));
    try {
      execFileSync('mkfifo', [join(dir, 'fifo')]);
      assert.throws(() => openNetns(join(dir, 'fifo')), { name: 'NetnsError', code: 'EINVAL' });
    } finally {
      rmSync(dir, { recursive: true });
    }
    for (const bad of ['', '.', '..', 'a/b', 'x'.repeat(256)])
      assert.throws(() => createNetns(bad), NetnsError);
  });

  test('withNetns nests and comes back, also from a throw, and takes no async function', () => {
    using one = createAnonymousNetns();
    using two = createAnonymousNetns();
    const before = own();
    withNetns(one, () => {
      const inside = own();
      assert.notEqual(inside, before);
      assert.throws(() =>
        withNetns(two, () => {
          assert.notEqual(own(), inside);
          throw new Error('from within');
        }),
      );
      assert.equal(own(), inside);
      const made = createAnonymousNetns();
      made.close();
      assert.equal(own(), inside);
    });
    assert.equal(own(), before);
    assert.throws(() => withNetns(one, async () => {}), TypeError);
    assert.throws(() => withNetns(one, () => Promise.resolve()), TypeError);
    assert.equal(own(), before);
  });

  test('a sysctl is the namespace’s own', () =>
    inFreshNetns((ns) => {
      writeSysctl(ns, 'net/ipv4/ip_forward', 1);
      assert.equal(readSysctl(ns, 'net/ipv4/ip_forward'), '1');
      using other = createAnonymousNetns();
      assert.equal(readSysctl(other, 'net/ipv4/conf/nolink/forwarding'), null);
      assert.throws(
        () => writeSysctl(ns, 'net/ipv4/conf/nolink/forwarding', 1),
        /nolink\/forwarding.*ENOENT/,
      );
      assert.throws(() => readSysctl(ns, 'kernel/../../secret'), TypeError);
    }));

  test('each namespace has a cookie of its own, the same at every look', () =>
    inFreshNetns((one) => {
      using other = createAnonymousNetns();
      const cookie = netnsCookie(one);
      assert.match(cookie ?? 'none', /^[0-9]+$/);
      assert.equal(netnsCookie(one), cookie);
      assert.notEqual(netnsCookie(other), cookie);
    }));

  test('a listening socket answers inside its namespace, on the event loop of the caller', () =>
    inFreshNetns(async (ns) => {
      using rt = RtNetlink.open(ns);
      rt.apply([{ op: 'link-set', name: 'lo', up: true }]);
      for (const address of ['127.0.0.1', '::1']) {
        const server = createServer((socket) => socket.end('hello')).listen({
          fd: listenTcpIn(ns, address, 4040, { ttl: 2, backlog: 8 }),
        });
        await once(server, 'listening');
        const connect = `exec 3<>/dev/tcp/${address}/4040 && cat <&3`;
        const { stdout } = await run('nsenter', [
          `--net=/proc/${process.pid}/fd/${ns.fd}`,
          'bash',
          '-c',
          connect,
        ]);
        assert.equal(stdout, 'hello');
        assert.throws(() => listenTcpIn(ns, address, 4040), { code: 'EADDRINUSE' });
        server.close();
        await once(server, 'close');
      }
    }));
});
