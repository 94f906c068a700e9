// What a part needs of a log: values and a sentence, at four levels. pino's logger is one.

export type Log = {
  debug(values: object, message: string): void;
  info(values: object, message: string): void;
  warn(values: object, message: string): void;
  error(values: object, message: string): void;
};
