// A picture to begin with: drawn over, mended within a mask, drawn on beyond its edges, or enlarged.

import * as api from "./api.js";
import { brush } from "./brush.js";
import { make, toast, voice } from "./dom.js";
import { number, say } from "./words.js";

const EDGES = ["left", "right", "top", "bottom"];
/** The longest file that is sent, so that as text it is what the server takes. */
const LARGEST = 23 << 20;

const field = (label, ...content) => make("label", { class: "field" }, make("span", {}, label), ...content);

/** A slider that says its value. */
const slider = (label, given, told) => {
  const value = make("output", { class: "num" });
  const input = make("input", { type: "range", "aria-label": label, ...given, oninput: () => show() });
  const show = () => { value.textContent = told(Number(input.value)); input.setAttribute("aria-valuetext", value.textContent); };
  show();
  return { input, show, element: make("label", { class: "field slide" }, make("span", {}, label, " ", value), input) };
};

/** A picture of an address, decoded. */
const decoded = async (url) => {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
};
const png = (canvas) => canvas.toDataURL("image/png");

/** The panel; `model()` is the chosen one, `changed` hears when it is shown, hidden or another way is chosen. */
export const beginning = (facts, model, changed) => {
  const element = make("section", { class: "begin", "aria-label": say("begin"), hidden: true });
  let picture = null, image = null, mask = null, way = "over", room = { left: 0, right: 0, top: 0, bottom: 0 }, later = null, wantedStage = null;

  const strength = slider(say("strength"), { min: 0, max: 100, value: 70 }, (value) => `${number(value)} %`);
  const size = slider(say("brush_size"), { min: 2, max: 60, value: 14, oninput: undefined }, (value) => `${number(value)} %`);
  const feather = slider(say("feather"), { min: 0, max: 64, value: 0 }, (value) => say("pixels", { n: number(value) }));
  const again = make("input", { type: "number", min: 1, max: facts.limits.resample, value: "1", inputMode: "numeric" });
  const part = slider(say("cut"), { min: 0, max: 100, value: 50 }, (value) => `${number(value)} %`);
  const stage = make("select", { onchange: () => { wantedStage = stage.value; show(); } });
  const board = make("div", { class: "board" }), rest = make("div", { class: "how" }), note = make("p", { class: "soft" });
  const edges = Object.fromEntries(EDGES.map((edge) => [edge, make("input", { type: "number", min: 0, max: facts.limits.picture_side, value: "0", inputMode: "numeric", onchange: () => extend(edge, Number(edges[edge].value) || 0) })]));

  const erase = make("button", { type: "button", "aria-pressed": "false", onclick: () => tool(true) }, say("eraser"));
  const paint = make("button", { type: "button", "aria-pressed": "true", onclick: () => tool(false) }, say("brush"));
  const tool = (erasing) => {
    mask?.act.erase(erasing);
    erase.setAttribute("aria-pressed", String(erasing));
    paint.setAttribute("aria-pressed", String(!erasing));
    voice(say(erasing ? "eraser" : "brush"));
  };
  size.input.addEventListener("input", () => mask?.act.size(Number(size.input.value) / 100));
  feather.input.addEventListener("input", () => soften());
  part.input.addEventListener("input", () => place());

  const button = (text, run, key) => make("button", { type: "button", onclick: run, title: key ?? null }, text);
  const tools = make("div", { class: "row tight" }, paint, erase,
    button(say("undo"), () => mask.act.undo(), "Ctrl Z"), button(say("invert"), () => mask.act.invert(), "i"), button(say("clear"), () => mask.act.clear(), "Delete"));

  const ways = make("fieldset", { class: "sizes ways" }, make("legend", {}, say("begin_how")), ["over", "mask", "beyond", "larger"].map((name) => make("label", {},
    make("input", { type: "radio", name: "way", value: name, checked: name === way, onchange: () => { way = name; show(); } }), make("span", {}, say(`begin_${name}`)))));

  /** Whether the model draws squares alone, of which the picture is none. */
  const cuts = () => model().square && picture.width !== picture.height && (way === "over" || way === "mask");

  /** The part of the picture that is drawn. */
  const whole = () => {
    const { width, height } = picture;
    if (!cuts()) return { x: 0, y: 0, width, height };
    const side = Math.min(width, height), at = Number(part.input.value) / 100;
    return { x: Math.round((width - side) * at), y: Math.round((height - side) * at), width: side, height: side };
  };

  /** An edge is moved. Where the model draws squares, the other two follow. */
  const extend = (edge, pixels) => {
    room[edge] = Math.max(0, Math.min(facts.limits.picture_side, Math.round(pixels)));
    const across = edge === "left" || edge === "right";
    const total = () => [picture.width + room.left + room.right, picture.height + room.top + room.bottom];
    if (model().square) {
      let [w, h] = total();
      const [first, second] = across ? ["top", "bottom"] : ["left", "right"];
      const missing = (across ? w : h) - (across ? picture.height : picture.width);
      if (missing < 0) {
        const other = { left: "right", right: "left", top: "bottom", bottom: "top" }[edge];
        room[other] += -missing;
      }
      const left = Math.max(0, missing);
      [room[first], room[second]] = [Math.floor(left / 2), Math.ceil(left / 2)];
    }
    for (const name of EDGES) edges[name].value = String(room[name]);
    place();
  };

  /** The stages that enlarge, each with what it enlarges. */
  const larger = () => model().stages.slice(1).map((each, k) => ({ stage: each.stage, low: model().stages[k].size, size: each.size }));

  const soften = () => {
    if (!mask) return;
    const shown = mask.canvas.getBoundingClientRect().width / picture.width;
    mask.canvas.style.filter = Number(feather.input.value) ? `blur(${(Number(feather.input.value) * shown) / 2}px)` : "";
  };

  let frame = null;
  /** Where things are on the board: the picture, the frame of what is drawn, what is cut away. */
  const place = (fixed) => {
    if (!picture) return;
    const beyond = way === "beyond", { width, height } = picture, pad = beyond ? 0.28 * Math.max(width, height) : 0;
    const drawn = beyond ? { x: -room.left, y: -room.top, width: width + room.left + room.right, height: height + room.top + room.bottom } : whole();
    const view = fixed ?? { x: Math.min(0, drawn.x) - pad, y: Math.min(0, drawn.y) - pad, width: Math.max(width, drawn.x + drawn.width) - Math.min(0, drawn.x) + 2 * pad, height: Math.max(height, drawn.y + drawn.height) - Math.min(0, drawn.y) + 2 * pad };
    board.style.aspectRatio = `${view.width} / ${view.height}`;
    board.classList.toggle("beyond", beyond);
    const put = (element, box) => Object.assign(element.style, { left: `${((box.x - view.x) / view.width) * 100}%`, top: `${((box.y - view.y) / view.height) * 100}%`, width: `${(box.width / view.width) * 100}%`, height: `${(box.height / view.height) * 100}%` });
    put(image, { x: 0, y: 0, width, height });
    put(frame, drawn);
    frame.hidden = !beyond && !cuts();
    frame.classList.toggle("cut", !beyond);
    if (mask) put(mask.holder, { x: 0, y: 0, width, height });
    place.view = view;
    const into = larger().find((each) => each.stage === stage.value);
    note.textContent = beyond ? say("becomes", { a: `${width} × ${height}`, b: `${drawn.width} × ${drawn.height}` })
      : way === "larger" && into ? say("becomes", { a: `${width} × ${height}`, b: `${number((width * into.size) / into.low)} × ${number((height * into.size) / into.low)}` })
      : cuts() ? say("cut_note") : "";
    soften();
  };

  /** An edge of the frame that is dragged. */
  const handle = (edge) => make("span", { class: `handle ${edge}`, "aria-hidden": "true", onpointerdown: (event) => {
    event.preventDefault();
    const from = [event.clientX, event.clientY], begun = room[edge], view = place.view, scale = view.width / board.getBoundingClientRect().width;
    event.target.setPointerCapture(event.pointerId);
    const move = (moved) => {
      const gone = { left: from[0] - moved.clientX, right: moved.clientX - from[0], top: from[1] - moved.clientY, bottom: moved.clientY - from[1] }[edge];
      extend(edge, begun + gone * scale);
      place(view);
    };
    event.target.addEventListener("pointermove", move);
    event.target.addEventListener("lostpointercapture", () => { event.target.removeEventListener("pointermove", move); place(); }, { once: true });
  } });

  const show = () => {
    element.hidden = !picture;
    if (picture) {
      for (const radio of ways.querySelectorAll("input")) {
        radio.checked = radio.value === way;
        radio.disabled = radio.value === "larger" && larger().length === 0;
      }
      const known = larger();
      const fitting = known.findLast((each) => each.low <= Math.min(picture.width, picture.height)) ?? known[0];
      const wanted = known.some((each) => each.stage === wantedStage) ? wantedStage : fitting?.stage;
      stage.replaceChildren(...known.map((each) => make("option", { value: each.stage, selected: each.stage === wanted }, `${each.low} → ${each.size} px`)));
      if (mask) mask.holder.hidden = way !== "mask";
      rest.replaceChildren(...({
        over: [cuts() ? part.element : null, strength.element, make("p", { class: "soft" }, say("strength_note"))],
        mask: [tools, make("div", { class: "pair" }, size.element, feather.element), cuts() ? part.element : null, field(say("resample"), again), make("p", { class: "soft" }, say("mask_note"))],
        beyond: [make("div", { class: "four" }, EDGES.map((edge) => field(say(`edge_${edge}`), edges[edge]))), feather.element, make("p", { class: "soft" }, say("beyond_note"))],
        larger: [field(say("larger_with"), stage)],
      })[way].filter(Boolean), note);
      place();
    }
    changed(picture ? way : null);
  };

  const clear = () => {
    picture = image = mask = null;
    board.replaceChildren();
    show();
  };

  /** Begins with a picture that the server has. */
  const use = async (given) => {
    image = await decoded(given.url);
    image.alt = say("begin_picture");
    picture = { id: given.id, width: image.naturalWidth, height: image.naturalHeight };
    room = { left: 0, right: 0, top: 0, bottom: 0 };
    for (const edge of EDGES) edges[edge].value = "0";
    image.className = Math.max(picture.width, picture.height) <= 64 ? "crisp" : "";
    frame = make("div", { class: "frame" }, EDGES.map(handle));
    mask = brush(picture.width, picture.height, () => {});
    mask.holder = make("div", { class: "holder" }, mask.canvas, mask.cursor);
    mask.canvas.addEventListener("erase", () => tool(!mask.act.erasing()));
    mask.canvas.addEventListener("size", (event) => { size.input.value = String(Number(size.input.value) + 4 * event.detail); size.input.dispatchEvent(new Event("input")); });
    mask.act.size(Number(size.input.value) / 100);
    tool(false);
    board.replaceChildren(image, mask.holder, frame);
    if (later) remember(later);
    later = null;
    show();
    voice(say("begin_taken"));
  };

  const text = (file) => new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });

  /** Begins with a file. */
  const take = async (file) => {
    if (file.size > LARGEST) return toast(say("begin_large"));
    try {
      await use(await api.upload(await text(file)));
      element.scrollIntoView({ block: "nearest" });
      return undefined;
    } catch (problem) { return toast(problem.message); }
  };

  /** The numbers of another beginning. */
  const remember = (given) => {
    if (given.strength !== undefined) { strength.input.value = String(Math.round(given.strength * 100)); strength.show(); }
    feather.input.value = String(given.feather ?? 0);
    feather.show();
    again.value = String(given.resample ?? 1);
    way = given.from ? "larger" : given.extend ? "beyond" : given.mask ? "mask" : "over";
    if (given.extend) for (const edge of EDGES) { room[edge] = given.extend[edge] ?? 0; edges[edge].value = String(room[edge]); }
    wantedStage = given.from ?? null;
  };

  /** The part of a picture that is drawn, sent. */
  const cut = async (box) => {
    if (box.width === picture.width && box.height === picture.height) return picture.id;
    const sheet = make("canvas", { width: box.width, height: box.height });
    sheet.getContext("2d").drawImage(image, -box.x, -box.y, picture.width, picture.height);
    return (await api.upload(png(sheet))).id;
  };

  return {
    element, take, use, clear, show,
    /** Numbers for the next picture that is taken. */
    later: (given) => { later = given; },
    picture: () => picture,
    way: () => way,
    /** Takes the beginning of an order, pictures and all. */
    restore: async (order) => {
      const { begin, from } = order;
      if (!begin) return clear();
      later = { ...begin, from };
      try {
        await use({ id: begin.picture, url: `/api/v1/uploads/${begin.picture}/file` });
        if (begin.mask) mask.take(await decoded(`/api/v1/uploads/${begin.mask}/file`));
        return undefined;
      } catch { clear(); return toast(say("begin_gone")); }
    },
    /** What an order says of it; nothing where there is none. Throws what has to be done first. */
    order: async () => {
      if (!picture) return null;
      if (way === "larger") return { begin: { picture: picture.id }, from: stage.value, until: stage.value };
      const soft = Number(feather.input.value) ? { feather: Math.min(Number(feather.input.value), Math.max(picture.width, picture.height)) } : {};
      if (way === "over") return { begin: { picture: await cut(whole()), strength: Number(strength.input.value) / 100 } };
      if (way === "beyond") {
        if (EDGES.every((edge) => room[edge] === 0)) throw new Error(say("beyond_first"));
        return { begin: { picture: picture.id, extend: { ...room }, ...soft } };
      }
      if (mask.empty()) throw new Error(say("mask_first"));
      const box = whole(), times = Number(again.value) || 1;
      const sent = await api.upload(png(mask.picture(box)));
      return { begin: { picture: await cut(box), mask: sent.id, ...(times > 1 ? { resample: times } : {}), ...soft } };
    },
    build: () => {
      element.replaceChildren(board, make("div", { class: "tools-of-begin" }, make("h2", {}, say("begin")), ways, rest,
        make("div", { class: "row" }, make("button", { type: "button", class: "plain", onclick: () => { clear(); voice(say("begin_removed")); } }, say("begin_remove")))));
    },
  };
};
