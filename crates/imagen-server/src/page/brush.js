// A mask over a picture: painted with the pointer or with keys, kept as opacity on a canvas of its own.

import { make, voice } from "./dom.js";
import { say } from "./words.js";

/** The colour of a mask: one that few pictures have. */
const INK = "#2a62e0";

/** The longest side of a mask: as fine as a brush is. */
const SIDE = 512;
/** Strokes that can be taken back. */
const UNDO = 40;

/** A mask for a picture of `width`×`height`; `changed` hears of every stroke. */
export const brush = (width, height, changed) => {
  const scale = Math.min(1, SIDE / Math.max(width, height));
  const canvas = make("canvas", {
    class: "mask", width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)),
    tabindex: "0", role: "application", "aria-label": say("mask_keys"),
  });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const cursor = make("span", { class: "cursor", "aria-hidden": "true", hidden: true });
  let size = 0.14, erasing = false, last = null, down = false, place = [0.5, 0.5];
  const before = [];

  const remember = () => {
    before.push(pen.getImageData(0, 0, canvas.width, canvas.height));
    if (before.length > UNDO) before.shift();
  };
  const radius = () => Math.max(1, (size * Math.max(canvas.width, canvas.height)) / 2);
  const point = ([x, y]) => [x * canvas.width, y * canvas.height];

  /** A line of the brush from one place to another. */
  const line = (from, to) => {
    Object.assign(pen, { globalCompositeOperation: erasing ? "destination-out" : "source-over", strokeStyle: INK, lineCap: "round", lineJoin: "round", lineWidth: 2 * radius() });
    pen.beginPath();
    pen.moveTo(...point(from));
    // a line of no length is a dot
    const [x, y] = point(to);
    pen.lineTo(x + 0.01, y);
    pen.stroke();
    changed();
  };
  const show = () => {
    Object.assign(cursor.style, { left: `${place[0] * 100}%`, top: `${place[1] * 100}%`, width: `${(2 * radius() * 100) / canvas.width}%` });
    cursor.classList.toggle("down", down);
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    remember();
    last = at(event);
    line(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    place = at(event);
    cursor.hidden = false;
    show();
    if (!last) return;
    for (const each of event.getCoalescedEvents?.() ?? [event]) {
      const now = at(each);
      line(last, now);
      last = now;
    }
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { last = null; });
  canvas.addEventListener("pointerleave", () => { if (document.activeElement !== canvas) cursor.hidden = true; });
  canvas.addEventListener("focus", () => { if (canvas.matches(":focus-visible")) { cursor.hidden = false; show(); } });
  canvas.addEventListener("blur", () => { cursor.hidden = true; down = false; });

  const act = {
    undo: () => {
      const image = before.pop();
      if (!image) return;
      pen.putImageData(image, 0, 0);
      changed();
    },
    invert: () => {
      remember();
      Object.assign(pen, { globalCompositeOperation: "xor", fillStyle: INK });
      pen.fillRect(0, 0, canvas.width, canvas.height);
      changed();
    },
    clear: () => {
      remember();
      pen.clearRect(0, 0, canvas.width, canvas.height);
      changed();
    },
    erase: (yes) => { erasing = yes; },
    erasing: () => erasing,
    size: (value) => { size = value; show(); },
  };

  canvas.addEventListener("keydown", (event) => {
    const step = (event.shiftKey ? 1 : 6) * 0.01;
    const way = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (way) {
      const next = place.map((value, k) => Math.min(1, Math.max(0, value + way[k])));
      if (down) line(place, next);
      place = next;
    } else if (event.key === " ") {
      down = !down;
      if (down) { remember(); line(place, place); }
      voice(say(down ? "pen_down" : "pen_up"));
    } else if ((event.key === "z" && (event.ctrlKey || event.metaKey))) {
      act.undo();
    } else if (!event.ctrlKey && !event.metaKey && event.key === "e") {
      canvas.dispatchEvent(new CustomEvent("erase"));
    } else if (!event.ctrlKey && !event.metaKey && event.key === "i") {
      act.invert();
    } else if (event.key === "Delete") {
      act.clear();
    } else if (event.key === "[" || event.key === "]") {
      canvas.dispatchEvent(new CustomEvent("size", { detail: event.key === "]" ? 1 : -1 }));
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    cursor.hidden = false;
    show();
  });

  /** Whether nothing is painted. */
  const empty = () => !pen.getImageData(0, 0, canvas.width, canvas.height).data.some((value, k) => k % 4 === 3 && value > 0);

  /** The mask as a picture that is white where it is painted, of the part `{ x, y, width, height }` of the picture. */
  const picture = (part) => {
    const ratio = canvas.width / width;
    const sheet = make("canvas", { width: Math.max(1, Math.round(part.width * ratio)), height: Math.max(1, Math.round(part.height * ratio)) }), ink = sheet.getContext("2d");
    ink.drawImage(canvas, -Math.round(part.x * ratio), -Math.round(part.y * ratio));
    Object.assign(ink, { globalCompositeOperation: "source-in", fillStyle: "#ffffff" });
    ink.fillRect(0, 0, sheet.width, sheet.height);
    Object.assign(ink, { globalCompositeOperation: "destination-over", fillStyle: "#000000" });
    ink.fillRect(0, 0, sheet.width, sheet.height);
    return sheet;
  };

  /** Paints what a mask that was kept says: its white. */
  const take = (image) => {
    const sheet = make("canvas", { width: canvas.width, height: canvas.height }), ink = sheet.getContext("2d", { willReadFrequently: true });
    ink.drawImage(image, 0, 0, canvas.width, canvas.height);
    const data = ink.getImageData(0, 0, canvas.width, canvas.height);
    for (let k = 0; k < data.data.length; k += 4) {
      const white = data.data[k];
      data.data.set([42, 98, 224, white], k);
    }
    pen.putImageData(data, 0, 0);
    changed();
  };

  return { canvas, cursor, act, empty, picture, take };
};
