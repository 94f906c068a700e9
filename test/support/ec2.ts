// EC2's stock client for a lab, from what `podway lab env` prints.
import { EC2Client, type EC2ClientConfig } from '@aws-sdk/client-ec2';

export const ec2ClientOf = (
  env: Readonly<Record<string, string | undefined>>,
  more: EC2ClientConfig = {},
): EC2Client =>
  new EC2Client({
    endpoint: env['AWS_ENDPOINT_URL_EC2']!,
    region: env['AWS_REGION']!,
    credentials: { accessKeyId: env['AWS_ACCESS_KEY_ID']!, secretAccessKey: env['AWS_SECRET_ACCESS_KEY']! },
    ...more,
  });
