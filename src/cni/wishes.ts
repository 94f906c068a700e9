// What a caller may ask of ADD beyond an address, and who wins when several ask:
// CNI_ARGS, then the config's args.cni, then runtimeConfig (CONVENTIONS of CNI). A wish that cannot be read is refused
// with the field's name: INVALID_CONFIG, or BAD_ENVIRONMENT when it stood in CNI_ARGS. Pure.
import { PodwayError } from '../base/errors.ts';
import { type Mac, parseMac } from '../base/mac.ts';
import {
  booleanAt,
  checkInterfaceAddress,
  checkIp,
  integerAt,
  invalid,
  objectAt,
  objectsAt,
  present,
  textAt,
  textsAt,
} from './fields.ts';
import { parseDns, parseRoute } from './result.ts';
import type { Dns, JsonObject, Wishes } from './types.ts';

/** Bytes: 576 is what every IPv4 host must accept (RFC 791), 65535 the most that a veth takes. */
const MTU = { min: 576, max: 65535 };

export const noWishes = (): Wishes => ({ dns: {}, routes: [], defaultRoute: true });

function unicastMac(text: string): Mac {
  const mac = parseMac(text);
  if (Number.parseInt(mac.slice(0, 2), 16) & 1) throw new TypeError(`"${text}" is a group address`);
  if (mac === '00:00:00:00:00:00') throw new TypeError(`"${text}" is no address`);
  return mac;
}

function macAt(parent: JsonObject | null, path: string): Mac | undefined {
  const text = parent ? textAt(parent, 'mac', path) : undefined;
  if (text === undefined) return undefined;
  try {
    return unicastMac(text);
  } catch (error) {
    throw invalid(path, (error as Error).message, error);
  }
}

function fromArgs<T>(key: string, text: string | undefined, read: (text: string) => T): T | undefined {
  if (!text) return undefined;
  try {
    return read(text);
  } catch (error) {
    throw new PodwayError(
      'BAD_ENVIRONMENT',
      `CNI_ARGS has a bad ${key}: ${(error as Error).message}`,
      { object: 'CNI_ARGS' },
      { cause: error },
    );
  }
}

const address = (text: string, path: string): string =>
  text.includes('/') ? checkInterfaceAddress(text, path) : checkIp(text, path);

function ipsAt(parent: JsonObject | null, path: string): string[] | undefined {
  if (!parent) return undefined;
  const ips = textsAt(parent, 'ips', path).map((text, i) => address(text, `${path}[${i}]`));
  return ips.length > 0 ? ips : undefined;
}

/** runtimeConfig.dns has other names than dns, and containerd writes them capitalised (Go matches names in any case). */
function runtimeDns(runtimeConfig: JsonObject | null): Dns {
  const given = runtimeConfig ? objectAt(runtimeConfig, 'dns', 'runtimeConfig.dns') : null;
  if (!given) return {};
  const dns: JsonObject = Object.fromEntries(
    Object.entries(given).map(([key, value]) => [key.toLowerCase(), value]),
  );
  const list = (key: string): string[] | undefined => {
    const texts = textsAt(dns, key, `runtimeConfig.dns.${key}`);
    return texts.length > 0 ? texts : undefined;
  };
  return present<Dns>({ nameservers: list('servers'), search: list('searches'), options: list('options') });
}

export function wishesOf(raw: JsonObject, args: ReadonlyMap<string, string>): Wishes {
  const runtimeConfig = objectAt(raw, 'runtimeConfig');
  const rawArgs = objectAt(raw, 'args');
  const argsCni = rawArgs ? objectAt(rawArgs, 'cni', 'args.cni') : null;
  const argIp = args.get('IP');
  const mac =
    macAt(runtimeConfig, 'runtimeConfig.mac') ??
    macAt(argsCni, 'args.cni.mac') ??
    fromArgs('MAC', args.get('MAC'), unicastMac);
  const ips =
    ipsAt(runtimeConfig, 'runtimeConfig.ips') ??
    ipsAt(argsCni, 'args.cni.ips') ??
    fromArgs('IP', argIp, (text) => text.split(',').map((one) => address(one, 'IP')));
  return {
    ...present<Pick<Wishes, 'mac' | 'ips' | 'mtu'>>({
      mac,
      ips,
      mtu: integerAt(raw, 'mtu', MTU) || undefined,
    }),
    dns: { ...parseDns(objectAt(raw, 'dns'), 'dns'), ...runtimeDns(runtimeConfig) },
    routes: objectsAt(raw, 'routes').map((route, i) => parseRoute(route, `routes[${i}]`)),
    defaultRoute: booleanAt(raw, 'defaultRoute', true),
  };
}
