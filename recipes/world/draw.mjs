// From a package's file or SVG to a cut-out: RGBA, transparent margins trimmed, the longest side as asked for.

import { createHash } from 'node:crypto';

/** Alpha up to this is margin. */
const MARGIN = 8;
/** A nearly square picture of which more than this is covered is a tile, not a cut-out. */
const TILE = 0.93;

/** An SVG of an iconify entry; `box` [x, y, w, h] in its own units, `pixels` [w, h]. One-coloured icons come out black. */
export function svg(icon, box, pixels) {
  return Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="${box.join(' ')}" ` +
    `width="${pixels[0]}" height="${pixels[1]}" color="#000">${icon.body.replaceAll('currentColor', '#000')}</svg>`);
}

/** The cut-out of one iconify entry: drawn once to find its edges, then again so that these fill the size. */
export async function cutVector(sharp, icon, size) {
  const probe = 256;
  const { left, top, width, height } = icon;
  const scale = probe / Math.max(width, height);
  const first = await raw(sharp(svg(icon, [left, top, width, height], [width * scale, height * scale])));
  const edge = bounds(first);
  if (!edge) return null;
  // One pixel more on every side: the probe cannot see where in its pixels the edge lies.
  const box = [left + (edge.x - 1) / scale, top + (edge.y - 1) / scale, (edge.w + 2) / scale, (edge.h + 2) / scale];
  const zoom = (size * (1 + 2 / Math.max(edge.w, edge.h))) / Math.max(box[2], box[3]);
  const second = await raw(sharp(svg(icon, box, [Math.round(box[2] * zoom), Math.round(box[3] * zoom)])));
  return fit(sharp, second, size);
}

export async function cutFile(sharp, file, size) {
  return fit(sharp, await raw(sharp(file)), size);
}

async function raw(image) {
  const { data, info } = await image.toColourspace('srgb').ensureAlpha().raw().toBuffer({ resolveWithObject: true });
  return { data, width: info.width, height: info.height };
}

async function fit(sharp, picture, size) {
  const edge = bounds(picture);
  if (!edge) return null;
  const image = sharp(picture.data, { raw: { width: picture.width, height: picture.height, channels: 4 } })
    .extract({ left: edge.x, top: edge.y, width: edge.w, height: edge.h });
  const scale = size / Math.max(edge.w, edge.h);
  if (scale === 1) return raw(image);
  return raw(image.resize(Math.max(1, Math.round(edge.w * scale)), Math.max(1, Math.round(edge.h * scale)), { fit: 'fill', kernel: 'lanczos3' }));
}

function bounds({ data, width, height }) {
  let x0 = width, x1 = -1, y0 = height, y1 = -1;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (data[(y * width + x) * 4 + 3] <= MARGIN) continue;
      x0 = Math.min(x0, x); x1 = Math.max(x1, x); y0 = Math.min(y0, y); y1 = Math.max(y1, y);
    }
  }
  return x1 < 0 ? null : { x: x0, y: y0, w: x1 - x0 + 1, h: y1 - y0 + 1 };
}

/** What is to be known of a cut-out without looking at it: mean colour, share of its box that is covered, difference hash, digest. */
export function measure({ data, width, height }) {
  const sum = [0, 0, 0];
  let alpha = 0;
  const cells = new Float64Array(72), weight = new Float64Array(72);
  // The hash sees the picture on white, in a square, so that a flat and a tall picture are not the same.
  const side = Math.max(width, height), dx = (side - width) / 2, dy = (side - height) / 2;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = (y * width + x) * 4, a = data[i + 3] / 255;
      alpha += a;
      for (let k = 0; k < 3; k++) sum[k] += data[i + k] * a;
      const cell = Math.min(7, Math.floor(((y + dy) * 8) / side)) * 9 + Math.min(8, Math.floor(((x + dx) * 9) / side));
      cells[cell] += (255 - (0.3 * data[i] + 0.59 * data[i + 1] + 0.11 * data[i + 2])) * a;
      weight[cell] += 1;
    }
  }
  for (let i = 0; i < 72; i++) cells[i] /= (side / 8) * (side / 9);
  let hash = 0n;
  for (let y = 0; y < 8; y++) for (let x = 0; x < 8; x++) hash = hash * 2n + (cells[y * 9 + x] > cells[y * 9 + x + 1] + 1 ? 1n : 0n);
  return {
    mean: sum.map((value) => Math.round(value / alpha)),
    cover: alpha / (width * height),
    tile: alpha / (width * height) > TILE && Math.min(width, height) / side > 0.9,
    hash,
    digest: createHash('sha256').update(`${width}x${height}`).update(data).digest('hex'),
  };
}

export function apart(a, b) {
  let bits = a ^ b, count = 0;
  for (; bits; bits >>= 1n) count += Number(bits & 1n);
  return count;
}
