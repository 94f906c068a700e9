// The parts that a sync is made of: what a notification of the kernel says was changed names one, and that alone is
// looked at. In the order in which a sync goes through them.

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
