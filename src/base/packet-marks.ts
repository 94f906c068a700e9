// Values of the packet mark that both the datapath and policy look at. Neither imports the other. ARCHITECTURE.md has
// all.

/**
 * Of the node itself, sent to a Service or a port of its own, on its second way to a pod with a branch: nobody judges
 * it.
 */
export const OWN_ARRIVED = 0x1c00;

/** Policy's bits. */
export const POLICY_MASK = 0x300;
/** In them: policy lets it pass. */
export const JUDGED = 0x100;
