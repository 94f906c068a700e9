// A refused ADD as an Event of its pod: the reason is the cause, the text has its numbers, what Podway does next and when,
// and what an operator can do. The same cause is told once a minute per pod, since a runtime asks again every few seconds.
import { eventReason } from '../base/causes.ts';
import { explainCause, type PodwayError } from '../base/errors.ts';
import type { CniRequest } from '../cni/types.ts';
import type { Events } from './events.ts';
import { createNews } from './news.ts';

export function createRefusals(events: Pick<Events, 'pod'>, now?: () => number) {
  const isNews = createNews(now);
  return (error: PodwayError, request: CniRequest | null): void => {
    if (request?.verb !== 'ADD' || !request.pod) return;
    const { namespace, name } = request.pod;
    if (!isNews(`${namespace}/${name} ${error.code}`)) return;
    events.pod(request.pod, 'Warning', eventReason(error.code), eventText(error));
  };
}

/** An Event's text has 1,024 characters; the cause's own sentence is cut before the rest is. */
const MOST = 1_000;

export function eventText(error: PodwayError): string {
  const { does, nextAt, next, doc } = explainCause(error);
  const when = nextAt === undefined ? '' : ` Next at ${new Date(nextAt).toISOString()}.`;
  const rest = ` Podway: ${does}${when} You: ${next} See ${doc}`;
  const text = `${error.code}: ${error.message}`;
  const room = MOST - rest.length;
  return `${text.length > room ? `${text.slice(0, room - 1)}…` : `${text}.`}${rest}`;
}
