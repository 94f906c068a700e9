// Lists of plugins and their results, for tests of the runtime side.
import assert from 'node:assert/strict';
import { CniError } from '../errors.ts';
import type { Chain } from './chain.ts';

export const result = (n: number, version = '1.1.0') => ({
  cniVersion: version,
  ips: [{ address: `10.0.0.${n}/32` }],
});
export const conf = (more: object = {}) => ({
  cniVersion: '1.1.0',
  name: 'net',
  plugins: [{ type: 'a', key: 1 }, { type: 'b' }, { type: 'c' }],
  ...more,
});
export const three = (chain: Chain) =>
  chain
    .plugin('a', { ADD: result(1) })
    .plugin('b', { ADD: result(2) })
    .plugin('c', { ADD: result(3) });
export const cni =
  (code: number, says = /./) =>
  (error: unknown) => {
    assert.ok(error instanceof CniError, String(error));
    assert.equal(error.code, code, error.msg);
    assert.match(error.msg, says);
    return true;
  };
