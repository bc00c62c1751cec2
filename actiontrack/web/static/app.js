// What every page needs: theme, keys, images, filters, and charts once they come into view.
import { drawCharts, forgetCharts, redrawCharts, refreshCharts } from "./charts.js";

const THEMES = ["system", "light", "dark"];

function setUpTheme() {
  const button = document.querySelector("[data-theme-toggle]");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const show = () => {
    const now = document.documentElement.dataset.theme ?? "system";
    button.querySelector("[data-theme-name]").textContent = now;
  };
  button.addEventListener("click", () => {
    const now = document.documentElement.dataset.theme ?? "system";
    const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
    if (next === "system") {
      delete document.documentElement.dataset.theme;
      window.localStorage.removeItem("actiontrack-theme");
    } else {
      document.documentElement.dataset.theme = next;
      window.localStorage.setItem("actiontrack-theme", next);
    }
    show();
    redrawCharts();
  });
  dark.addEventListener("change", redrawCharts);
  button.hidden = false;
  show();
}

// Keys: an element with data-keys="n ArrowRight" is clicked, or focused if it is a field.

function writing(target) {
  return target instanceof HTMLElement
    && (target.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName))
    && !["checkbox", "radio", "range"].includes(target.type);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const help = document.querySelector("#keys");
  if (event.key === "Escape" && writing(event.target)) event.target.blur();
  if (writing(event.target) || help?.open) return;
  if (event.target.type === "range" && event.key.startsWith("Arrow")) return;
  if (event.key === "?" && help) {
    event.preventDefault();
    help.showModal();
    return;
  }
  const found = [...document.querySelectorAll("[data-keys]")]
    .find((each) => each.dataset.keys.split(" ").includes(event.key) && !each.disabled);
  if (!found) return;
  event.preventDefault();
  if (found.matches("input, select")) found.focus();
  else found.click();
}

function setUpKeys() {
  document.addEventListener("keydown", onKey);
  const help = document.querySelector("#keys");
  document.querySelector("[data-keys-help]")?.addEventListener("click", () => help.showModal());
  help?.addEventListener("click", (event) => { if (event.target === help) help.close(); });
}

// Images: small ones are shown with their pixels as squares; one that fails says so.

function onImage(image) {
  if (image.naturalWidth > 0 && image.naturalWidth <= 96) image.classList.add("pixels");
}

function setUpImages() {
  document.addEventListener("load", (event) => {
    if (event.target instanceof HTMLImageElement) onImage(event.target);
  }, true);
  document.addEventListener("error", (event) => {
    event.target.closest?.(".frame, .stage")?.classList.add("missing");
  }, true);
  document.querySelectorAll("main img").forEach((each) => { if (each.complete) onImage(each); });
}

// Forms: an empty field or a default says nothing, so the address leaves it out.

function setUpForms() {
  document.addEventListener("formdata", (event) => {
    if (event.target.method !== "get") return;
    const kept = [...event.formData].filter(([name, value]) => {
      const field = event.target.querySelector(`[name="${CSS.escape(name)}"][data-default]`);
      return value !== "" && value !== field?.dataset.default;
    });
    [...event.formData.keys()].forEach((name) => event.formData.delete(name));
    kept.forEach(([name, value]) => event.formData.append(name, value));
  });
  // A choice that changes more than the results asks for the page, and htmx need not know of it.
  document.addEventListener("input", (event) => {
    if (event.target.matches("[data-reload]")) event.stopPropagation();
  }, true);
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-reload]")) event.target.form.submit();
  });
  document.addEventListener("input", (event) => {
    const target = event.target.dataset?.opacityOf;
    if (target) document.querySelector(target).style.opacity = event.target.value;
  });
  document.querySelectorAll("[data-opacity-of]").forEach((each) => {
    document.querySelector(each.dataset.opacityOf).style.opacity = each.value;
  });
}

// Menus close when something else is used.

function setUpMenus() {
  const closeOthers = (kept) => {
    document.querySelectorAll("details.menu[open]").forEach((each) => {
      if (each !== kept) each.open = false;
    });
  };
  document.addEventListener("click", (event) => closeOthers(event.target.closest("details.menu")));
  document.addEventListener("focusin", (event) => closeOthers(event.target.closest("details.menu")));
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && event.target.closest("details.menu");
    if (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
}

// If the server does not answer, a message says so where its answer would have been.

function onFailure(event) {
  const results = document.querySelector("#results");
  if (!results || event.detail?.error?.name === "AbortError") return;
  const note = document.createElement("div");
  note.className = "note warn";
  note.textContent = "The server does not answer. Try again, or reload the page.";
  results.prepend(note);
}

// Rows picked for a comparison: their values are RUN:RECORD, and only one record is compared.

function setUpPicks() {
  const form = document.querySelector("[data-picks]");
  if (!form) return;
  const show = () => {
    const picks = [...form.querySelectorAll("input[name=pick]:checked")].map((box) => box.value);
    const records = new Set(picks.map((value) => value.slice(value.indexOf(":") + 1)));
    const [record] = records;
    let label = `Compare ${record} of ${picks.length} runs`;
    if (picks.length < 2) label = "Pick two runs or more to compare";
    if (records.size > 1) label = "Pick rows of one record to compare";
    document.querySelectorAll("[data-compare]").forEach((button) => {
      button.disabled = picks.length < 2 || records.size > 1;
      button.textContent = label;
    });
  };
  form.addEventListener("change", show);
  window.addEventListener("pageshow", show); // the browser keeps picks on the way back
  show();
}

function onSwap() {
  document.querySelectorAll("main img").forEach((each) => { if (each.complete) onImage(each); });
  forgetCharts();
  drawCharts();
  refreshCharts();
}

setUpTheme();
setUpKeys();
setUpImages();
setUpForms();
setUpMenus();
setUpPicks();
drawCharts();
document.addEventListener("htmx:after:settle", onSwap);
document.addEventListener("htmx:error", onFailure);
document.documentElement.dataset.ready = "true";
