// The parts of a sync, in the order in which a sync goes through them. A kernel notification selects one part, and only
// that part is compared.

export const ALL_PARTS = [
  'sysctls',
  'links',
  'addresses',
  'rules',
  'routes',
  'neighbours',
  'table',
  'elements',
] as const;

export type Part = (typeof ALL_PARTS)[number];
