// The studio in a headless Chromium, as somebody uses it who has a keyboard, a phone or a screen reader.
//
//   npm ci --prefix crates/imagen-server/tests/browser
//   node crates/imagen-server/tests/browser/studio.mjs [--program target/release/imagen] [--shots FOLDER] [--address of a studio that is new]
//
// Every page is looked over by axe, every request is held to this server, and what a console says is a failure.

import { spawn } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import assert from "node:assert/strict";
import puppeteer from "puppeteer-core";

const options = { program: "target/release/imagen", browser: "/usr/bin/chromium", shots: "", address: "" };
for (let i = 2; i < process.argv.length; i += 2) options[process.argv[i].slice(2)] = process.argv[i + 1];
/** A machine that does other things too may take so many milliseconds for a step of this. */
const PATIENCE = 90_000;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const data = mkdtempSync(join(tmpdir(), "studio-"));
// a training that goes on: lines as `imagen train` writes them, under one of this project's recipes
const run = join(data, "runs", "shapes");
mkdirSync(join(run, "samples"), { recursive: true });
copyFileSync(new URL("../../../../recipes/shapes/base.toml", import.meta.url), join(run, "recipe.toml"));
const lines = Array.from({ length: 60 }, (_, k) => ({ kind: "train", step: 10 * (k + 1), steps: 10, skipped: 0, loss: 1 / (k + 2), loss_by_t: [0.1, 0.1, 0.1, 0.1], gradient_norm: 1, lr: 0.001, pictures: 320, seconds: 2, pictures_per_second: 160 }));
lines.push({ kind: "validation", step: 600, loss: 0.02 }, ...[300, 600].map((step) => ({ kind: "probe", step, pictures: 32, right_caption: 0.02, shuffled_captions: 0.3, no_caption: 0.1 })));
writeFileSync(join(run, "metrics.jsonl"), lines.map((line) => JSON.stringify(line) + "\n").join(""));

// a sweep of two curves and a study whose pictures come when one is drawn, as `imagen eval` writes them
const evals = join(data, "evals");
mkdirSync(join(evals, "steps"), { recursive: true });
writeFileSync(join(evals, "steps", "sweep.json"), JSON.stringify({ data: "set", captions_from: "all", compared_with: "real", captions: 64, references: 64, seed: 0, stage: "base", extractor: "layout-1", extractor_digest: "0", resize: "area", models: [] }));
const interval = { low: 0.25, high: 0.75 }, rate = (value) => ({ hits: 1, rate: value, interval });
const grid = [4, 16].flatMap((steps) => [1, 1.5, 2, 3].map((guidance) => ({ model: "built-in", stage: "base", settings: { sampler: "ddim", steps, guidance, thresholding: "static" }, pictures: 64, top_1: rate(0.2), top_5: rate(0.3 + 0.15 * Math.log2(guidance) + 0.01 * steps), kid: 0.05 + 0.02 * guidance * guidance - 0.002 * steps, kid_interval: interval, frechet_distance: 1, shown: "a.png" })));
writeFileSync(join(evals, "steps", "points.jsonl"), grid.map((point) => JSON.stringify(point) + "\n").join(""));
const study = (bytes) => {
  const folder = join(evals, "first");
  for (const set of ["ours", "theirs"]) {
    mkdirSync(join(folder, set), { recursive: true });
    for (const k of [0, 1]) writeFileSync(join(folder, set, `${k}.png`), bytes);
  }
  const sets = ["ours", "theirs"].map((name) => ({ name, origin: { kind: "imported", folder: name }, files: [0, 1].map((k) => [`${name}/${k}.png`]) }));
  writeFileSync(join(folder, "study.json"), JSON.stringify({ version: 1, seed: 1, suite: "mine", pictures: 1, prompts: [{ text: "a red apple", category: "x" }, { text: "a cat", category: "x" }], sets }));
};

let holder = null;
const server = options.address ? null : spawn(options.program, ["serve", "--port", "0", "--data", data, "--runs", join(data, "runs"), "--evals", evals], { stdio: ["ignore", "pipe", "ignore"] });
const address = options.address || await new Promise((found, failed) => {
  server.stdout.once("data", (line) => found(line.toString().trim().replace(/\/$/, "")));
  server.once("exit", (code) => failed(new Error(`the server ended with ${code}`)));
});
const browser = await puppeteer.launch({ executablePath: options.browser, args: ["--no-sandbox", "--disable-gpu"], protocolTimeout: PATIENCE });
const context = await browser.createBrowserContext();

const faults = [];
const open = async (viewport, path = "/") => {
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on("console", (message) => { if (["error", "warn"].includes(message.type())) faults.push(`console: ${message.text()}`); });
  page.on("pageerror", (error) => faults.push(`page: ${error.message}`));
  page.on("request", (request) => { if (!request.url().startsWith(address) && !/^(data|blob|about):/.test(request.url())) faults.push(`elsewhere: ${request.url()}`); });
  await page.setViewport(viewport);
  await page.goto(address + path);
  await page.waitForSelector("#prompt");
  return page;
};
const DESKTOP = { width: 1280, height: 900 }, PHONE = { width: 390, height: 844, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

const shot = async (page, name) => {
  if (!options.shots) return;
  mkdirSync(options.shots, { recursive: true });
  await page.screenshot({ path: join(options.shots, `${name}.png`) });
};
/** What axe finds wrong, of any weight. */
const look = async (page, name) => {
  // colours that are on their way are nobody's to read
  await page.waitForFunction(() => document.getAnimations().every((animation) => animation.playState !== "running" || animation.animationName === "sheen"));
  const client = await page.createCDPSession();
  await client.send("Page.setBypassCSP", { enabled: true });
  await page.evaluate(axe);
  const found = await page.evaluate(async () => (await globalThis.axe.run(document, { resultTypes: ["violations"] })).violations.map((rule) => `${rule.impact} ${rule.id}: ${rule.nodes[0].html.slice(0, 150)}`));
  assert.deepEqual(found, [], name);
};
const ask = (path) => fetch(address + path).then((answer) => answer.json());
const pictures = async () => (await ask("/api/v1/images")).images;
const chord = async (page, ...keys) => {
  for (const key of keys.slice(0, -1)) await page.keyboard.down(key);
  await page.keyboard.press(keys.at(-1));
  for (const key of keys.slice(0, -1).reverse()) await page.keyboard.up(key);
};
const prompt = async (page, text) => {
  await page.focus("#prompt");
  await chord(page, "Control", "a");
  await page.keyboard.press("Backspace");
  await page.keyboard.type(text);
};
/** Presses a button by its words, once it is there. */
const press = async (page, text, within = "body") => {
  const found = await page.waitForFunction((wanted, root) => [...document.querySelectorAll(`${root} button, ${root} a`)]
    .find((each) => each.textContent.includes(wanted) && !each.disabled && each.offsetParent !== null), {}, text, within);
  await found.evaluate((button) => button.click());
};
/** Waits until a page of the studio is the one that is seen: an address that changed is heard of later, and a gallery is asked for anew. */
const arrived = (page, name) => page.waitForSelector(`#${name}-page:not([hidden]):not(:has(> * > .wall[aria-busy=true]))`);
const turn = async (page, name) => {
  await page.evaluate((wanted) => { location.hash = wanted; }, `#${name}`);
  await arrived(page, name);
};
const count = (page, selector, least) => page.waitForFunction((wanted, n) => document.querySelectorAll(wanted).length >= n, {}, selector, least);
const say = (text) => console.log(`ok  ${text}`);
const worded = (page, wanted) => page.waitForFunction((text) => document.querySelector(".work blockquote")?.textContent === text && document.querySelector(".work .tile img") && !document.querySelector(".work .tile.waiting"), {}, wanted);

/** Drawing from pictures: over, within a mask, beyond the edges, larger. */
const begins = async (page, picture, file, drop) => {
  const hidden = () => page.waitForFunction(() => document.querySelector(".begin").hidden);
  const way = (name) => page.click(`.ways input[value=${name}]`);
  const size = (name) => page.click(`.sizes input[value=${name}]`);
  // one of ours offers itself, once its settings are taken
  await drop(new Uint8Array(file), "apple.png");
  await press(page, "Begin with it", "#toasts");
  await page.waitForSelector(".begin:not([hidden]) .board img");
  await look(page, "begin, over");
  await size("base");
  await prompt(page, "a red apple");
  await chord(page, "Control", "Enter");
  await worded(page, "a red apple");
  let last = (await pictures())[0];
  assert.deepEqual([last.request.begin.strength, last.width], [0.7, 64]);

  // a mask by hand: strokes, undone, erased, inverted
  await way("mask");
  const painted = () => page.$eval(".mask", (canvas) => {
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let count = 0;
    for (let k = 3; k < data.length; k += 4) count += data[k] > 127;
    return count / (canvas.width * canvas.height);
  });
  const stroke = async (from, to) => {
    const { x, y, width, height } = await (await page.$(".mask")).boundingBox();
    await page.mouse.move(x + from[0] * width, y + from[1] * height);
    await page.mouse.down();
    await page.mouse.move(x + to[0] * width, y + to[1] * height, { steps: 6 });
    await page.mouse.up();
  };
  await page.evaluate(() => document.querySelector(".begin").scrollIntoView({ block: "center" }));
  await chord(page, "Control", "Enter");
  await page.waitForFunction(() => /Paint what is to be drawn/.test(document.querySelector("#toasts").textContent));
  await stroke([0.2, 0.3], [0.8, 0.3]);
  const once = await painted();
  assert.ok(once > 0.05 && once < 0.3, String(once));
  await stroke([0.2, 0.6], [0.8, 0.6]);
  assert.ok(await painted() > 1.5 * once);
  await press(page, "Undo", ".begin");
  assert.equal(await painted(), once);
  await press(page, "Eraser", ".begin");
  await stroke([0.5, 0.1], [0.5, 0.5]);
  assert.ok(await painted() < once);
  await press(page, "Undo", ".begin");
  await press(page, "Invert", ".begin");
  assert.ok(Math.abs(await painted() - (1 - once)) < 0.02);
  await press(page, "Undo", ".begin");
  await press(page, "Brush", ".begin");
  await look(page, "begin, mask");
  await shot(page, "mask");
  await size("sr256");
  await prompt(page, "a mended pear");
  await chord(page, "Control", "Enter");
  await worded(page, "a mended pear");
  last = (await pictures())[0];
  // how far the pictures are from each other in the rows of the stroke, and below them
  const far = await page.evaluate(async (urls) => {
    const data = await Promise.all(urls.map(async (url) => {
      const image = new Image();
      image.src = url;
      await image.decode();
      const canvas = new OffscreenCanvas(256, 256), pen = canvas.getContext("2d", { willReadFrequently: true });
      pen.drawImage(image, 0, 0);
      return pen;
    }));
    const apart = (y, height) => {
      const [a, b] = data.map((pen) => pen.getImageData(0, y, 256, height).data);
      return a.reduce((sum, value, k) => Math.max(sum, Math.abs(value - b[k])), 0);
    };
    return [apart(60, 30), apart(150, 100)];
  }, [picture.url, last.url]);
  assert.ok(far[0] > 20 && far[1] <= 1, `within the mask it is another, beyond it is the same: ${far}`);

  // by keys alone
  await page.focus(".mask");
  await page.keyboard.press("Delete");
  assert.equal(await painted(), 0);
  for (const key of ["ArrowLeft", "Space", "ArrowRight", "ArrowRight", "ArrowDown", "Space", "ArrowDown"]) await page.keyboard.press(key);
  const byKeys = await painted();
  assert.ok(byKeys > 0.01 && byKeys < 0.2, String(byKeys));
  await page.keyboard.press("i");
  assert.ok(await painted() > 0.8);
  await chord(page, "Control", "z");
  assert.equal(await painted(), byKeys);
  await page.keyboard.press("]");
  assert.match(await page.$eval(".begin .pair output", (value) => value.textContent), /18/);

  // the frame is dragged; a model of squares keeps it one
  await way("beyond");
  await page.evaluate(() => document.querySelector(".begin").scrollIntoView({ block: "center" }));
  const handle = await (await page.$(".handle.left")).boundingBox();
  await page.mouse.move(handle.x + 12, handle.y + handle.height / 2);
  await page.mouse.down();
  await page.mouse.move(handle.x - 40, handle.y + handle.height / 2, { steps: 5 });
  await page.mouse.up();
  const room = await page.$$eval(".four input", (all) => all.map((input) => Number(input.value)));
  assert.ok(room[0] > 20 && room[1] === 0 && room[2] + room[3] === room[0], room.join());
  await look(page, "begin, beyond");
  await shot(page, "beyond");
  await size("base");
  await prompt(page, "a wider apple");
  await chord(page, "Control", "Enter");
  await worded(page, "a wider apple");
  last = (await pictures())[0];
  assert.deepEqual(Object.values(last.request.begin.extend), room);
  assert.match(last.command, /--image start\.png --extend left=/);

  // a small picture is enlarged as it is
  await press(page, "Begin without", ".begin");
  await hidden();
  const [input] = await page.$$("input[type=file]"), small = (await pictures()).find((each) => each.width === 64);
  writeFileSync(join(data, "small.png"), new Uint8Array(await (await fetch(address + small.url)).arrayBuffer()));
  await input.uploadFile(join(data, "small.png"));
  await page.waitForSelector(".begin:not([hidden]) .board img");
  await way("larger");
  await look(page, "begin, larger");
  assert.equal(await page.$eval(".begin select", (select) => select.value), "sr256");
  await prompt(page, "");
  await chord(page, "Control", "Enter");
  await worded(page, "—");
  last = (await pictures())[0];
  assert.deepEqual([last.request.from, last.width, Object.keys(last.stages).join()], ["sr256", 256, "sr256"]);
  await press(page, "Begin without", ".begin");
  await hidden();
  say("over a picture, within a mask, beyond its edges, larger; by hand and by keys");

  // its start comes back with its settings
  await turn(page, "gallery");
  await page.type("#gallery-page input[type=search]", "mended");
  await page.waitForFunction(() => document.querySelectorAll("#gallery-page .wall .tile").length === 1);
  await page.click("#gallery-page .wall .tile");
  await page.waitForSelector("dialog .command");
  assert.deepEqual(await page.$$eval("dialog a[download]", (all) => all.map((link) => link.download).filter((name) => /^(start|mask)/.test(name))), ["start.png", "mask.png"]);
  await press(page, "Use these settings", "dialog");
  await page.waitForSelector(".begin:not([hidden]) .board img");
  await page.waitForFunction(() => document.querySelector(".ways input[value=mask]").checked);
  assert.ok(Math.abs(await painted() - once) < 0.03, "the mask is painted again");
  await press(page, "Begin without", ".begin");
  await hidden();
  say("a picture that began with another brings it back");

  // the small picture stays, what is added to it varies
  await turn(page, "gallery");
  await page.click("#gallery-page .wall .tile");
  await page.waitForSelector("dialog .command");
  await press(page, "Other details", "dialog");
  await page.waitForFunction(() => document.querySelectorAll(".work .tile img").length === 4);
  const four = (await pictures()).slice(0, 4);
  assert.deepEqual([new Set(four.map((each) => each.seed)).size, new Set(four.map((each) => each.request.sr_seeds[0])).size], [1, 4]);
  await page.$eval("#gallery-page input[type=search]", (search) => { search.value = ""; });
  say("one small picture, four ways of enlarging it");
  await turn(page, "draw");
};

/** What both languages say, and what the page asks for. */
const languages = async (page) => {
  const [english, vietnamese, asked] = await page.evaluate(async () => {
    const words = await Promise.all(["english", "vietnamese"].map(async (name) => Object.keys((await import(`/assets/${name}.js`)).default)));
    const names = performance.getEntriesByType("resource").map((entry) => entry.name).filter((name) => name.endsWith(".js"));
    const texts = await Promise.all(names.map((name) => fetch(name).then((answer) => answer.text())));
    return [...words, texts.flatMap((text) => [...text.matchAll(/\bsay\("(\w+)"/g)].map((found) => found[1]))];
  });
  assert.deepEqual(english, vietnamese, "both languages say the same things");
  assert.deepEqual(asked.filter((key) => !english.includes(key)), [], "nothing is said that has no words");
  say(`${english.length} sentences in two languages`);
};

try {
  const page = await open(DESKTOP);
  // a warm model: what is measured is the page and the server
  await page.waitForFunction(() => document.querySelector(".sizes input"));
  await look(page, "start");
  await shot(page, "start");
  await languages(page);

  await prompt(page, "a sunflower");
  const begun = Date.now();
  await chord(page, "Control", "Enter");
  await count(page, ".film .frames canvas", 1);
  const first = Date.now() - begun;
  await count(page, ".film .frames canvas", 9);
  await look(page, "drawing");
  await shot(page, "drawing");
  await page.waitForSelector(".work .tile img");
  assert.equal(await page.$$eval(".film .frames canvas", (all) => all.length), 28, "an estimate of every step of both stages");
  const seen = await page.$$eval(".strip canvas", (all) => all.map((canvas) => canvas.width));
  assert.deepEqual(seen, [64, 256], "each stage shows its own pixels");
  say(`a prompt becomes a picture, every step is seen; the first after ${first} ms`);

  await page.focus(".film input");
  for (let k = 0; k < 20; k++) await page.keyboard.press("ArrowLeft");
  assert.match(await page.$eval(".film input", (input) => input.getAttribute("aria-valuetext")), /^64 pixels, step 8 of 16/);
  assert.equal(await page.$eval(".work .tile canvas", (canvas) => canvas.width), 64);
  say("the film is looked back at with the arrows");

  const before = (await pictures()).length;
  await prompt(page, "a rocket");
  await chord(page, "Control", "Enter");
  await page.waitForFunction(() => document.querySelector(".work blockquote")?.textContent === "a rocket" && document.querySelector(".film .frames canvas"));
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => /Cancelled/.test(document.querySelector(".work .side").textContent));
  assert.equal((await pictures()).length, before);
  say("Escape ends what is drawn");

  await prompt(page, "a green apple");
  await chord(page, "Alt", "Enter");
  await count(page, ".work .tile[aria-pressed] img", 9);
  await look(page, "drafts");
  const tiles = await page.$$(".work .tile");
  await tiles[1].focus();
  await page.keyboard.press("Space");
  await tiles[4].click();
  await tiles[4].click();
  await tiles[5].click();
  await shot(page, "drafts");
  assert.deepEqual(await page.$$eval(".work .tile", (all) => all.map((tile) => tile.getAttribute("aria-pressed") === "true")), [0, 1, 0, 0, 0, 1, 0, 0, 0].map(Boolean));
  await press(page, "Enlarge 2 chosen", ".work");
  await page.waitForFunction(() => document.querySelectorAll(".work .tile").length === 2 && document.querySelectorAll(".work .tile img").length === 2);
  const [small, large] = [(await pictures()).filter((picture) => picture.width === 64), (await pictures()).filter((picture) => picture.width === 256 && picture.prompt === "a green apple")];
  const chosen = [1, 5].map((k) => small.find((picture) => picture.index === k).seed);
  assert.deepEqual(large.map((picture) => picture.seed).sort(), [...chosen].sort(), "only those that were chosen");
  await shot(page, "enlarged");
  say("nine drafts, two chosen, two enlarged");

  const file = await (await fetch(address + large[0].url)).arrayBuffer();
  const drop = (bytes, name) => page.evaluate((content, file) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(content)], file, { type: "image/png" }));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }, [...bytes], name);
  await prompt(page, "something else");
  await drop(new Uint8Array(file), "apple.png");
  await page.waitForFunction(() => document.querySelector("#prompt").value === "a green apple");
  const filled = await page.$$eval(".fields input", (all) => all.map((input) => input.value));
  assert.ok(filled.includes(String(large[0].seed)), filled.join());
  await drop(new TextEncoder().encode("<script>alert(1)</script>"), "x.png");
  await page.waitForFunction(() => /not a picture/.test(document.querySelector("#toasts").textContent));
  faults.splice(faults.findIndex((fault) => /400/.test(fault)), 1);
  assert.equal(await page.$(".begin:not([hidden])"), null);
  say("a dropped picture fills the form, and what is none is said to be none");

  await begins(page, large[0], file, drop);

  // a setting is found behind the form, and changes what is drawn
  await page.evaluate(() => { document.querySelector("details.settings").open = true; });
  await look(page, "settings");
  await shot(page, "settings");
  await page.evaluate(() => { const steps = document.querySelector('[data-stage="base"] input'); steps.value = "3"; document.querySelector('.sizes input[value="base"]').click(); });
  await prompt(page, "<img src=x onerror=alert(1)>");
  await chord(page, "Control", "Enter");
  await page.waitForFunction(() => document.querySelector(".work blockquote")?.textContent.startsWith("<img") && document.querySelector(".work .tile img"));
  assert.equal((await pictures())[0].stages.base.steps, 3);
  assert.equal(await page.$$eval("img[src='x']", (all) => all.length), 0, "what a prompt says stays text");
  say("settings reach the model, and a prompt is never a page");

  // what the model was never taught is said, and what it knows instead is a click away
  const far = "quarterly revenue of the steel industry";
  await prompt(page, far);
  await chord(page, "Control", "Enter");
  await worded(page, far);
  assert.match(await page.$eval(".remarks", (list) => list.textContent), /far from everything that the model was taught/);
  await look(page, "far");
  await shot(page, "far");
  const text = await page.$eval(".remarks button", (button) => button.textContent);
  assert.ok((await ask(`/api/v1/jobs/${(await pictures())[0].job}`)).remarks[0].nearest.includes(text));
  await press(page, text, ".remarks");
  await worded(page, text);
  assert.equal(await page.$eval(".remarks", (list) => list.hidden), true);
  say("a prompt far from what was taught is told so, with prompts that are near");

  // what is wrong behind a fold is shown, and the other language keeps what was typed and what is seen
  const steps = '[data-stage="base"] input';
  await page.$eval(steps, (field) => { field.value = "5000"; field.closest("details").open = false; });
  await chord(page, "Control", "Enter");
  await page.waitForFunction((wrong) => document.activeElement === document.querySelector(wrong), {}, steps);
  await page.$eval(steps, (field) => { field.value = "7"; });
  await prompt(page, "a typed word");
  for (const language of ["vi", "en"]) {
    await page.click("#language");
    await page.waitForFunction((wanted) => document.documentElement.lang === wanted && document.querySelector(".work .tile img"), {}, language);
    assert.deepEqual(await page.evaluate((field) => [document.querySelector("#prompt").value, document.querySelector(field).value], steps), ["a typed word", "7"]);
    assert.equal(await page.$eval(".work blockquote", (quote) => quote.textContent), text);
  }
  say("a wrong number is shown; the other language keeps everything");

  // two settings against each other, a job for each cell
  await page.evaluate(() => { document.querySelector('[data-stage="base"] input').value = ""; });
  await prompt(page, "a red apple");
  const axes = await page.$$(".axes select"), values = await page.$$(".axes input");
  await axes[0].select("base.steps");
  await axes[1].select("base.guidance");
  for (const [k, text] of ["2, 4, 8", "1, 3"].entries()) {
    await values[k].focus();
    await chord(page, "Control", "a");
    await page.keyboard.type(text);
  }
  await press(page, "Draw the sheet");
  await page.waitForFunction(() => document.querySelectorAll(".grid .tile img").length === 6 && [...document.querySelectorAll(".axes-sheet button")].some((button) => /PNG/.test(button.textContent) && !button.hidden));
  await look(page, "sheet");
  await shot(page, "sheet");
  const sheet = (await pictures()).slice(0, 6);
  assert.deepEqual(new Set(sheet.map((picture) => picture.seed)).size, 1, "one seed");
  assert.deepEqual(sheet.map(({ stages }) => `${stages.base.steps} ${stages.base.guidance}`).sort(), ["2 1", "2 3", "4 1", "4 3", "8 1", "8 3"]);
  assert.deepEqual(await page.$$eval(".grid th[scope]", (all) => all.map((cell) => cell.textContent)), ["2", "4", "8", "1", "3"]);
  const session = await page.createCDPSession(), kept = mkdtempSync(join(tmpdir(), "sheet-"));
  await session.send("Browser.setDownloadBehavior", { behavior: "allow", downloadPath: kept, browserContextId: context.id });
  await press(page, "Save as PNG");
  for (let k = 0; k < 100 && !existsSync(join(kept, "imagen-sheet.png")); k++) await new Promise((done) => setTimeout(done, 100));
  assert.equal(readFileSync(join(kept, "imagen-sheet.png")).subarray(1, 4).toString(), "PNG");
  rmSync(kept, { recursive: true });
  say("a sheet of two settings, and as a file");

  await page.keyboard.press("Tab");
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("2");
  await arrived(page, "gallery");
  await count(page, "#gallery-page .wall .tile", 10);
  await page.keyboard.press("/");
  await page.keyboard.type("APPLE green");
  const apples = async () => page.waitForFunction((n) => document.querySelectorAll("#gallery-page .wall .tile").length === n, {}, (await ask("/api/v1/images?search=apple+green")).images.length);
  await apples();
  await look(page, "gallery");
  await page.focus("#gallery-page .wall .tile");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
  await page.waitForSelector("dialog .command");
  await look(page, "picture");
  await shot(page, "picture");
  const shown = () => page.$eval("dialog .command code", (code) => code.textContent);
  const one = await shown();
  assert.match(one, /^imagen sample --seed \d+ --until sr256 'a green apple'$/);
  await page.keyboard.press("ArrowRight");
  await page.waitForFunction((known) => document.querySelector("dialog .command code").textContent !== known, {}, one);
  await press(page, "Favourite", "dialog");
  await page.waitForSelector("dialog .star[aria-pressed=true]");
  await page.click("dialog .command button");
  // a headless browser may have no clipboard: the text is chosen then
  await page.waitForFunction(() => /Copied/.test(document.querySelector("#toasts").textContent) || getSelection().toString().startsWith("imagen sample"));
  await page.keyboard.press("ArrowLeft");
  await page.waitForFunction((known) => document.querySelector("dialog .command code").textContent === known, {}, one);
  await press(page, "Compare", "dialog");
  await page.waitForSelector("dialog .wall .tile");
  await look(page, "compare with");
  await press(page, "Bicubic", "dialog");
  await page.waitForSelector("dialog .compare canvas");
  assert.deepEqual(await page.$eval("dialog .compare canvas", (canvas) => [canvas.width, canvas.height]), [256, 256]);
  await press(page, "Difference", "dialog");
  await press(page, "Side by side", "dialog");
  await look(page, "bicubic");
  await shot(page, "bicubic");
  await press(page, "Back", "dialog");
  await press(page, "Compare", "dialog");
  await page.waitForSelector("dialog .row.other select");
  await page.select("dialog .row.other select", "sr256.steps");
  await page.$eval("dialog .row.other input", (input) => { input.value = "3"; });
  await press(page, "Draw and compare", "dialog");
  await page.waitForSelector("dialog .compare");
  assert.equal((await pictures())[0].stages.sr256.steps, 3);
  await press(page, "Back", "dialog");
  await press(page, "Compare", "dialog");
  await page.waitForSelector("dialog .wall .tile");
  await page.click("dialog .wall .tile");
  await page.waitForSelector("dialog .compare");
  await look(page, "compare");
  await shot(page, "compare");
  await page.focus("dialog .flip");
  await page.keyboard.press("c");
  assert.equal(await page.$eval("dialog .compare", (pair) => pair.style.getPropertyValue("--at")), "0%");
  await page.keyboard.press("Escape");
  await page.evaluate(() => { document.querySelector("#gallery-page input[type=search]").dispatchEvent(new Event("input")); });
  say("the gallery: search, arrows, favourite, command, compare");

  await apples();
  const there = (await ask("/api/v1/images?search=apple+green")).images.length;
  await page.click("#gallery-page .wall .tile");
  await page.waitForSelector("dialog .command");
  await press(page, "Delete", "dialog");
  await page.waitForFunction((n) => document.querySelectorAll("#gallery-page .wall .tile").length === n, {}, there - 1);
  assert.equal((await ask("/api/v1/images?search=apple+green")).images.length, there - 1);
  await press(page, "Undo", "#toasts");
  await page.waitForFunction((n) => document.querySelectorAll("#gallery-page .wall .tile").length === n, {}, there);
  say("a deleted picture comes back");

  // several at once: as one file, gone, and back
  const walls = () => page.$$eval("#gallery-page .wall .tile", (all) => all.length);
  const before_choice = await walls();
  await press(page, "Choose", "#gallery-page");
  const boxes = await page.$$("#gallery-page .choice");
  await boxes[0].click();
  await boxes[2].click();
  await look(page, "choosing");
  await shot(page, "choosing");
  const archive = mkdtempSync(join(tmpdir(), "zip-"));
  await session.send("Browser.setDownloadBehavior", { behavior: "allow", downloadPath: archive, browserContextId: context.id });
  await press(page, "Download as zip", "#gallery-page");
  for (let k = 0; k < 100 && !existsSync(join(archive, "imagen.zip")); k++) await new Promise((done) => setTimeout(done, 100));
  const zip = readFileSync(join(archive, "imagen.zip"));
  assert.ok(zip.subarray(0, 2).toString() === "PK" && zip.includes("pictures.jsonl"));
  rmSync(archive, { recursive: true });
  await press(page, "Delete", "#gallery-page");
  await page.waitForFunction((n) => document.querySelectorAll("#gallery-page .wall .tile").length === n, {}, before_choice - 2);
  await press(page, "Undo", "#toasts");
  await page.waitForFunction((n) => document.querySelectorAll("#gallery-page .wall .tile").length === n, {}, before_choice);
  await press(page, "Choose", "#gallery-page");
  say("several pictures: a zip, deleted, brought back");

  // a studio that was there before has runs of its own
  if (server) {
    for (const step of ["0000300", "0000600"]) writeFileSync(join(run, "samples", `${step}.png`), new Uint8Array(file));
    // a run that wrote something just now goes on
    utimesSync(join(run, "metrics.jsonl"), new Date(), new Date());
    // as a training holds its folder
    holder = spawn("flock", ["--close", run, "sleep", "600"], { detached: true });
    await turn(page, "train");
    await count(page, ".chart svg", 2);
    await page.waitForFunction(() => document.querySelector(".over-time img")?.naturalWidth > 0);
    assert.match(await page.$eval(".runs li", (item) => item.textContent), /shapes.*training.*600/);
    await page.focus(".over-time input");
    await page.keyboard.press("ArrowLeft");
    assert.match(await page.$eval(".over-time p", (note) => note.textContent), /step 300/);
    await look(page, "trainings");
    await shot(page, "trainings");
    await count(page, ".facts-of-runs tbody tr", 10);
    assert.match(await page.$eval(".facts-of-runs", (table) => table.textContent), /Estimated.*GiB/);
    await look(page, "train");
    await shot(page, "train");
    await press(page, "Stop", ".runs");
    await page.waitForSelector("dialog .ask-first");
    await look(page, "stop");
    assert.equal(existsSync(join(run, "stop")), false, "not before it is said again");
    await press(page, "Stop", "dialog");
    await page.waitForFunction(() => /Stopping/.test(document.querySelector(".runs").textContent));
    assert.ok(existsSync(join(run, "stop")));
    say("a training is watched, and asked to stop");

    study(new Uint8Array(file));
    await turn(page, "evaluate");
    await count(page, ".sweep .chart polyline", 2);
    await look(page, "evaluate");
    await shot(page, "evaluate");
    assert.match(await page.$eval(".studies", (list) => list.textContent), /first.*ours, theirs.*Votes: 0 · raters: 0/);
    const raters = await context.newPage();
    await raters.goto(await page.$eval(".studies a", (link) => link.href));
    await raters.type("#rater", "anna");
    await raters.keyboard.press("Enter");
    await raters.waitForSelector("form.trial");
    await raters.waitForFunction(() => [...document.querySelectorAll(".panel img")].every((image) => image.naturalWidth > 0));
    // two questions, answered by keys
    for (const key of ["ArrowLeft", "ArrowLeft"]) await raters.keyboard.press(key);
    await raters.waitForFunction(() => document.querySelector("progress")?.value > 0);
    await raters.close();
    await turn(page, "draw");
    await turn(page, "evaluate");
    await page.waitForFunction(() => /Votes: 2 · raters: 1/.test(document.querySelector(".studies").textContent));
    const report = await context.newPage();
    await report.goto(await page.$$eval(".studies a", (all) => all.find((link) => link.textContent === "Report").href));
    assert.match(await report.$eval("h1", (title) => title.textContent), /What raters said/);
    await report.close();
    say("a sweep's curves, a study's raters and their report");

    await page.goto(`${address}/api`);
    await count(page, ".reference section", 30);
    await look(page, "reference");
    await page.goto(`${address}/#gallery`);
    await count(page, "#gallery-page .wall .tile", 11);
    say("the reference of the API");
  }

  await page.click("#theme");
  assert.equal(await page.$eval("html", (html) => html.dataset.theme), "dark");
  await look(page, "gallery, dark");
  await shot(page, "gallery-dark");
  await turn(page, "draw");
  await look(page, "draw, dark");
  await shot(page, "dark");
  await page.close();
  say("dark");

  const phone = await open(PHONE);
  await phone.evaluate(() => { localStorage.setItem("imagen.language", "vi"); localStorage.setItem("imagen.theme", "light"); localStorage.setItem("imagen.size", "sr256"); });
  await phone.reload();
  await phone.waitForSelector(".sizes input");
  assert.equal(await phone.$eval("html", (html) => html.lang), "vi");
  await phone.waitForFunction(() => document.querySelectorAll(".recent .tile").length > 5);
  const missing = await phone.evaluate(() => document.body.innerText.match(/\b(Settings|Gallery|Latest|Draw|Nine)\b/));
  assert.equal(missing, null, "all is said in Vietnamese");
  await look(phone, "phone");
  await shot(phone, "phone");
  await prompt(phone, "a grinning cat");
  await phone.tap("button.main");
  await phone.waitForSelector(".work .tile img");
  await shot(phone, "phone-drawn");
  await phone.evaluate(() => { document.querySelector("details.settings").open = true; });
  for (const name of ["draw", "gallery"]) {
    await turn(phone, name);
    assert.equal(await phone.evaluate(() => document.documentElement.scrollWidth), 390, `${name} fits the phone`);
  }
  await phone.close();
  say("a phone of 390 pixels, in Vietnamese");

  // a closed tab loses nothing
  const closed = await open(DESKTOP);
  await closed.evaluate(() => localStorage.setItem("imagen.language", "en"));
  await prompt(closed, "a blue book");
  await chord(closed, "Control", "Enter");
  await closed.waitForSelector(".film .frames canvas");
  await closed.close();
  const back = await open(DESKTOP);
  await back.waitForFunction(() => document.querySelector(".work blockquote")?.textContent === "a blue book");
  await back.waitForSelector(".work .tile img");
  await back.close();
  say("a closed tab loses nothing");

  assert.deepEqual(faults, []);
  say("nothing was asked of anybody else, and the console is empty");
} catch (error) {
  console.log(faults.join("\n"));
  for (const page of await context.pages()) console.log(page.url(), await page.evaluate(() => document.body.innerText.slice(0, 1000)));
  throw error;
} finally {
  await browser.close();
  if (holder) process.kill(-holder.pid);
  if (server) {
    server.kill("SIGINT");
    await new Promise((gone) => server.once("exit", gone));
  }
  rmSync(data, { recursive: true });
}
