// Results of ADD in all seven versions: read into the shape of 1.1.0, written in the version that the config says.
// Invariant: what a version cannot say is left out, never said wrongly; `interface: 0` is written, an absent one is not.
// Fails with INVALID_CONFIG for a result that is none, INCOMPATIBLE_VERSION for one that a version cannot tell at all.
import { PodwayError } from '../base/errors.ts';
import {
  checkInterfaceAddress,
  checkIp,
  checkPrefix,
  integerAt,
  invalid,
  objectAt,
  objectsAt,
  present,
  textAt,
  textsAt,
} from './fields.ts';
import type { Dns, Interface, IpConfig, Json, JsonObject, Result, Route } from './types.ts';
import { atLeast, type CniVersion, isSupported } from './versions.ts';

const UINT32 = { min: 0, max: 0xffffffff };

const familyOf = (text: string): '4' | '6' => (text.includes(':') ? '6' : '4');

export function parseDns(dns: JsonObject | null, path: string): Dns {
  if (!dns) return {};
  const list = (key: string): string[] | undefined => {
    const texts = textsAt(dns, key, `${path}.${key}`);
    return texts.length > 0 ? texts : undefined;
  };
  return present<Dns>({
    nameservers: list('nameservers'),
    domain: textAt(dns, 'domain', `${path}.domain`),
    search: list('search'),
    options: list('options'),
  });
}

export function parseRoute(route: JsonObject, path: string): Route {
  const dst = textAt(route, 'dst', `${path}.dst`);
  if (!dst) throw invalid(`${path}.dst`, 'is missing');
  const gw = textAt(route, 'gw', `${path}.gw`);
  const number = (key: string) => integerAt(route, key, UINT32, `${path}.${key}`);
  return present<Route>({
    dst: checkPrefix(dst, `${path}.dst`),
    gw: gw === undefined ? undefined : checkIp(gw, `${path}.gw`),
    mtu: number('mtu'),
    advmss: number('advmss'),
    priority: number('priority'),
    table: number('table'),
    scope: number('scope'),
  });
}

const parseRoutes = (parent: JsonObject, path: string): Route[] =>
  objectsAt(parent, 'routes', `${path}.routes`).map((route, i) => parseRoute(route, `${path}.routes[${i}]`));

function parseInterface(link: JsonObject, path: string): Interface {
  const name = textAt(link, 'name', `${path}.name`);
  if (!name) throw invalid(`${path}.name`, 'is missing');
  const text = (key: string) => textAt(link, key, `${path}.${key}`);
  return present<Interface>({
    name,
    mac: text('mac'),
    mtu: integerAt(link, 'mtu', UINT32, `${path}.mtu`) || undefined,
    sandbox: text('sandbox'),
    socketPath: text('socketPath'),
    pciID: text('pciID'),
  });
}

function parseIpConfig(ip: JsonObject, path: string, key: 'address' | 'ip'): IpConfig {
  const address = textAt(ip, key, `${path}.${key}`);
  if (!address) throw invalid(`${path}.${key}`, 'is missing');
  const gateway = textAt(ip, 'gateway', `${path}.gateway`);
  const index = integerAt(ip, 'interface', { min: -1, max: 0xffff }, `${path}.interface`);
  return present<IpConfig>({
    address: checkInterfaceAddress(address, `${path}.${key}`),
    gateway: gateway === undefined ? undefined : checkIp(gateway, `${path}.gateway`),
    interface: index === -1 ? undefined : index,
  });
}

/** Reads a result; its own cniVersion says the shape, `version` does when it has none. */
export function parseResult(result: JsonObject, version: CniVersion, path = 'prevResult'): Result {
  const said = textAt(result, 'cniVersion', `${path}.cniVersion`) ?? version;
  if (!isSupported(said)) throw invalid(`${path}.cniVersion`, `${said} is not supported`);
  const dns = parseDns(objectAt(result, 'dns', `${path}.dns`), `${path}.dns`);
  if (!atLeast(said, '0.3.0')) {
    const ips: IpConfig[] = [];
    const routes: Route[] = [];
    for (const key of ['ip4', 'ip6']) {
      const one = objectAt(result, key, `${path}.${key}`);
      if (!one) continue;
      ips.push(parseIpConfig(one, `${path}.${key}`, 'ip'));
      routes.push(...parseRoutes(one, `${path}.${key}`));
    }
    return { interfaces: [], ips, routes, dns };
  }
  return {
    interfaces: objectsAt(result, 'interfaces', `${path}.interfaces`).map((link, i) =>
      parseInterface(link, `${path}.interfaces[${i}]`),
    ),
    ips: objectsAt(result, 'ips', `${path}.ips`).map((ip, i) =>
      parseIpConfig(ip, `${path}.ips[${i}]`, 'address'),
    ),
    routes: parseRoutes(result, path),
    dns,
  };
}

function renderOld(result: Result, version: CniVersion): JsonObject {
  const out: JsonObject = { cniVersion: version };
  for (const family of ['4', '6'] as const) {
    const ip = result.ips.find(({ address }) => familyOf(address) === family);
    if (!ip) continue;
    const routes = result.routes
      .filter(({ dst }) => familyOf(dst) === family)
      .map(({ dst, gw }) => present<JsonObject>({ dst, gw }));
    out[`ip${family}`] = present<JsonObject>({
      ip: ip.address,
      gateway: ip.gateway,
      routes: routes.length > 0 ? routes : undefined,
    });
  }
  if (result.ips.length === 0) {
    throw new PodwayError(
      'INCOMPATIBLE_VERSION',
      `a result without an address cannot be told in CNI ${version}`,
      {
        object: 'cniVersion',
        has: version,
        limit: '0.3.0',
      },
    );
  }
  return out;
}

/** The JSON of a result in one version. Lists and dns that are empty are left out. */
export function renderResult(result: Result, version: CniVersion): JsonObject {
  const out: JsonObject = atLeast(version, '0.3.0') ? { cniVersion: version } : renderOld(result, version);
  if (atLeast(version, '0.3.0')) {
    const isLatest = atLeast(version, '1.1.0');
    const put = (key: string, list: JsonObject[]) => {
      if (list.length > 0) out[key] = list;
    };
    put(
      'interfaces',
      result.interfaces.map(({ name, mac, mtu, sandbox, socketPath, pciID }) =>
        present<JsonObject>({ name, mac, sandbox, ...(isLatest ? { mtu, socketPath, pciID } : {}) }),
      ),
    );
    put(
      'ips',
      result.ips.map(({ address, gateway, interface: index }) =>
        present<JsonObject>({
          version: atLeast(version, '1.0.0') ? undefined : familyOf(address),
          interface: index,
          address,
          gateway,
        }),
      ),
    );
    put(
      'routes',
      result.routes.map(({ dst, gw, mtu, advmss, priority, table, scope }) =>
        present<JsonObject>({ dst, gw, ...(isLatest ? { mtu, advmss, priority, table, scope } : {}) }),
      ),
    );
  }
  const dns = renderDns(result.dns);
  if (dns) out['dns'] = dns;
  return out;
}

function renderDns({ nameservers, domain, search, options }: Dns): Json | undefined {
  const list = (texts?: string[]) => (texts && texts.length > 0 ? texts : undefined);
  const dns = present<JsonObject>({
    nameservers: list(nameservers),
    domain: domain || undefined,
    search: list(search),
    options: list(options),
  });
  return Object.keys(dns).length > 0 ? dns : undefined;
}
