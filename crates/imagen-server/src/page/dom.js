// Elements, made of text and never of HTML: what a prompt or a picture says stays what it says.

/** An element with properties, attributes, listeners and children. */
export const make = (tag, given = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined));
  return element;
};

/** The element of an id. */
export const by = (id) => document.getElementById(id);

/** Says something to those who listen in place of looking. */
export const voice = (text) => { by("voice").textContent = text; };

/** A note at the lower edge, with something to do about it. */
export const toast = (text, action, run, seconds = 8) => {
  const note = make("div", { class: "toast", role: "status" }, text);
  const gone = () => note.remove();
  if (action) note.append(make("button", { type: "button", onclick: () => { gone(); run(); } }, action));
  by("toasts").replaceChildren(note);
  setTimeout(gone, seconds * 1000);
};

/** A dialog that is gone when it is closed; what had the focus gets it back. */
export const dialog = (label, ...children) => {
  const box = make("dialog", { "aria-label": label });
  box.append(...children);
  document.body.append(box);
  box.addEventListener("close", () => box.remove());
  box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
  box.showModal();
  return box;
};

/** Whether somebody is typing. */
export const typing = (event) => event.target.closest?.("input, textarea, select") !== null;

/** Gives a file to whoever sits before the page. */
export const keep = (blob, name) => {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
};
