// The studio in a headless Chromium, as somebody uses it who has a keyboard, a phone or a screen reader.
//
//   npm ci --prefix crates/imagen-server/tests/browser
//   node crates/imagen-server/tests/browser/studio.mjs [--program target/release/imagen] [--shots FOLDER] [--address of a studio that is new]
//
// Every page is looked over by axe, every request is held to this server, and what a console says is a failure.

import { spawn } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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

const server = options.address ? null : spawn(options.program, ["serve", "--port", "0", "--data", data, "--runs", join(data, "runs")], { stdio: ["ignore", "pipe", "ignore"] });
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
  await page.keyboard.type(text);
};
const press = (page, text, within = "body") => page.evaluate((wanted, root) => {
  const button = [...document.querySelectorAll(`${root} button, ${root} a`)].find((each) => each.textContent.includes(wanted) && !each.disabled && each.offsetParent !== null);
  if (!button) throw new Error(`there is no button ${wanted}`);
  button.click();
}, text, within);
const count = (page, selector, least) => page.waitForFunction((wanted, n) => document.querySelectorAll(wanted).length >= n, {}, selector, least);
const say = (text) => console.log(`ok  ${text}`);

try {
  const page = await open(DESKTOP);
  // a warm model: what is measured is the page and the server
  await page.waitForFunction(() => document.querySelector(".sizes input"));
  await look(page, "start");
  await shot(page, "start");

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
  await page.waitForFunction(() => /no settings/.test(document.querySelector("#toasts").textContent));
  say("a dropped picture fills the form, and another one says what it lacks");

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
  await count(page, "#gallery-page .wall .tile", 10);
  await page.keyboard.press("/");
  await page.keyboard.type("APPLE green");
  await page.waitForFunction(() => document.querySelectorAll("#gallery-page .wall .tile").length === 11);
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
  say("the gallery: search, arrows, favourite, command, compare");

  await page.click("#gallery-page .wall .tile");
  await page.waitForSelector("dialog .command");
  await press(page, "Delete", "dialog");
  await page.waitForFunction(() => document.querySelectorAll("#gallery-page .wall .tile").length === 10);
  await press(page, "Undo", "#toasts");
  await page.waitForFunction(() => document.querySelectorAll("#gallery-page .wall .tile").length === 11);
  say("a deleted picture comes back");

  // a studio that was there before has runs of its own
  if (server) {
    for (const step of ["0000300", "0000600"]) writeFileSync(join(run, "samples", `${step}.png`), new Uint8Array(file));
    await page.evaluate(() => { location.hash = "#train"; });
    await count(page, ".chart svg", 2);
    await page.waitForFunction(() => document.querySelector(".over-time img")?.naturalWidth > 0);
    assert.match(await page.$eval(".runs li", (item) => item.textContent), /shapes.*training.*600/);
    await page.focus(".over-time input");
    await page.keyboard.press("ArrowLeft");
    assert.match(await page.$eval(".over-time p", (note) => note.textContent), /step 300/);
    await look(page, "trainings");
    await shot(page, "trainings");
    say("a training is watched");

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
  await page.evaluate(() => { location.hash = "#draw"; });
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
  for (const hash of ["#draw", "#gallery"]) {
    await phone.evaluate((wanted) => { location.hash = wanted; }, hash);
    assert.equal(await phone.evaluate(() => document.documentElement.scrollWidth), 390, `${hash} fits the phone`);
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
  throw error;
} finally {
  await browser.close();
  if (server) {
    server.kill("SIGINT");
    await new Promise((gone) => server.once("exit", gone));
  }
  rmSync(data, { recursive: true });
}
