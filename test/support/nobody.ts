// Another user of the machine, who asks for a lab's files, sockets and URLs.
import { spawn } from 'node:child_process';

export type Places = { files: string[]; sockets: string[]; urls: string[]; metrics: string };

/** By place: the error's code, or what was got. */
export async function askedByNobody(places: Places): Promise<Record<string, string>> {
  const child = spawn(process.execPath, ['-e', NOBODY, JSON.stringify(places)], {
    env: {},
    cwd: '/',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let out = '';
  for await (const text of child.stdout.setEncoding('utf8')) out += text;
  return JSON.parse(out) as Record<string, string>;
}

/** Run by the pinned Node: becomes the user `nobody` without groups, asks for everything, tells each answer. */
const NOBODY = `
const fs = require('node:fs'), net = require('node:net');
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
process.removeAllListeners('warning');
process.setgroups([]); process.setgid(65534); process.setuid(65534);
const { files, sockets, urls, metrics } = JSON.parse(process.argv[1]);
const got = {};
for (const file of files) {
  try { fs.readdirSync(file); got[file] = 'listed'; } catch (error) {
    if (error.code !== 'ENOTDIR') got[file] = error.code;
    else try { fs.readFileSync(file); got[file] = 'read'; } catch (error) { got[file] = error.code; }
  }
}
const dial = (path) => new Promise((done) => {
  const socket = net.connect(path, () => { done('connected'); socket.destroy(); });
  socket.on('error', (error) => done(error.code));
});
const credentials = [{}, { authorization: 'Bearer x' }, { authorization: 'AWS4-HMAC-SHA256 Credential=AKIAX/20260101/us-west-2/ec2/aws4_request, SignedHeaders=host, Signature=00' }];
const fetched = (url, headers, ms = 30000) => fetch(url, { headers, signal: AbortSignal.timeout(ms) }).then((answer) => String(answer.status), (error) => String(error.cause?.code ?? error.name));
(async () => {
  for (const path of sockets) got[path] = await dial(path);
  for (const url of urls) got[url] = [...new Set(await Promise.all(credentials.map((headers) => fetched(url, headers))))].join();
  got[metrics] = await fetched(metrics, {}, 1500);
  console.log(JSON.stringify(got));
})();
`;
