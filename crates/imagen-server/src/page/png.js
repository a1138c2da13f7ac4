// What a PNG says about itself, read here in the browser: a dropped picture is sent nowhere, and what it says is text.

/** The longest file that is looked at. */
const LARGEST = 64 << 20;

const inflate = async (bytes) => {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const text = await new Response(stream).text();
  return text.slice(0, 4 << 20);
};

/** The texts of a PNG by keyword; nothing where it is none. */
export const texts = async (file) => {
  if (file.size > LARGEST) throw new RangeError("too large");
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (![137, 80, 78, 71, 13, 10, 26, 10].every((byte, k) => bytes[k] === byte)) return {};
  const view = new DataView(bytes.buffer), found = {};
  const latin = new TextDecoder("latin1"), utf8 = new TextDecoder();
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at), kind = latin.decode(bytes.subarray(at + 4, at + 8));
    const data = bytes.subarray(at + 8, at + 8 + length);
    at += 12 + length;
    const end = data.indexOf(0);
    if (!["tEXt", "iTXt"].includes(kind) || end < 1) continue;
    const keyword = latin.decode(data.subarray(0, end));
    if (keyword in found) continue;
    if (kind === "tEXt") {
      found[keyword] = latin.decode(data.subarray(end + 1));
    } else {
      const packed = data[end + 1] === 1, language = data.indexOf(0, end + 3), translated = data.indexOf(0, language + 1);
      if (language < 0 || translated < 0) continue;
      const text = data.subarray(translated + 1);
      found[keyword] = packed ? await inflate(text) : utf8.decode(text);
    }
  }
  return found;
};

/** The order that a picture of Imagen holds; nothing where it holds none. */
export const order = async (file) => {
  const { imagen } = await texts(file);
  if (!imagen) return null;
  try {
    const record = JSON.parse(imagen);
    if (typeof record.prompt !== "string" || typeof record.stages !== "object") return null;
    const names = Object.keys(record.stages);
    const order = { prompt: record.prompt, negative: typeof record.negative === "string" ? record.negative : undefined, seed: record.seed, model: record.model?.name, until: names.at(-1), stages: record.stages };
    if (Number.isFinite(record.sr_seed)) order.sr_seed = record.sr_seed;
    const { seed, part } = record.toward ?? {};
    if (Number.isFinite(seed) && Number.isFinite(part)) Object.assign(order, { seed, vary: { seed: record.seed, part } });
    // what it began with is known by its checksum alone
    const { extend, feather, resample, mask } = record.start ?? {};
    const room = typeof extend === "string" ? Object.fromEntries(extend.split(",").map((each) => each.split("=")).map(([edge, pixels]) => [edge, Number(pixels)])) : undefined;
    if (record.start) order.began = { strength: record.strength, extend: room, feather, resample, mask, from: record.from };
    return order;
  } catch {
    return null;
  }
};
