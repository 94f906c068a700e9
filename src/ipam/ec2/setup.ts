// Makes an attached ENI usable: it goes with its instance, and the node's network knows it and its addresses. Only then
// are addresses of it given out. A failure pauses the ENI.
import type { EniId } from '../../cloud/port.ts';
import { type Core, commit, pause, tellListeners } from '../core.ts';
import { eniRecord } from '../journal/records.ts';
import { type Eni, toldEni, withEni } from '../state.ts';
import { whileNew } from './attachment.ts';
import { failed } from './failure.ts';

export async function setup(core: Core, eniId: EniId): Promise<void> {
  const eni = core.state.enis.get(eniId)!;
  const { attachmentId } = eni;
  if (!eni.primary && !eni.deleteOnTermination && attachmentId) {
    try {
      await whileNew(core, eni, () => core.cloud.setDeleteOnTermination(eniId, attachmentId, core.signal));
    } catch (error) {
      failed(core, error, [`eni:${eniId}`], null, { eni: eniId });
      return;
    }
  }
  await setupWith(core, { ...(core.state.enis.get(eniId) ?? eni), deleteOnTermination: true });
}

/** Tells the node's network about the ENI; its addresses may be given out only after that. */
export async function setupWith(core: Core, eni: Eni): Promise<void> {
  commit(core, withEni(core.state, eni), eniRecord(eni));
  const told = new Set(eni.blocks.keys());
  try {
    await tellListeners(core);
  } catch (error) {
    pause(core, `eni:${eni.id}`, error);
    core.log.warn({ eni: eni.id, error: String(error) }, 'the network of the node cannot take the ENI yet');
    return;
  }
  const now = core.state.enis.get(eni.id);
  if (!now) return;
  const ready = toldEni(now, told);
  commit(core, withEni(core.state, ready), eniRecord(ready));
}
