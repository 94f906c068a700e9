// Hardware addresses as lower-case colon text: they are compared and printed, never computed with.

export type Mac = string & { readonly __mac: unique symbol };

export function parseMac(text: string): Mac {
  if (!/^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/.test(text))
    throw new TypeError(`"${text}" is not a MAC address`);
  return text.toLowerCase() as Mac;
}

export const macToBytes = (mac: Mac): Uint8Array =>
  Uint8Array.from(mac.split(':'), (part) => Number.parseInt(part, 16));
export const macFromBytes = (bytes: Uint8Array): Mac =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':') as Mac;

/** Makes six bytes a locally administered unicast address (IEEE 802: bit 1 of the first octet set, bit 0 clear). */
export function localMac(bytes: Uint8Array): Mac {
  const six = Uint8Array.from(bytes.subarray(0, 6));
  six[0] = (six[0]! & 0xfc) | 0x02;
  return macFromBytes(six);
}
