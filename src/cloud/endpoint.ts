// Where a service of AWS is: the environment's word, else its regional address under the partition's domain. Pure.

/** Domain of a partition when the instance's metadata has not told it. */
const domainOf = (region: string): string =>
  region.startsWith('cn-') ? 'amazonaws.com.cn' : 'amazonaws.com';

/** `domain`: what IMDS says at services/domain. */
export function serviceEndpoint(
  service: 'ec2' | 'sts',
  region: string,
  domain: string | undefined,
  env: Record<string, string | undefined> = process.env,
): string {
  const said = env[`AWS_ENDPOINT_URL_${service.toUpperCase()}`] || env['AWS_ENDPOINT_URL'];
  return said || `https://${service}.${region}.${domain ?? domainOf(region)}`;
}
