// Charts of the pages. Their numbers come from the API; nothing is computed here but positions.
/* global echarts */

const drawn = new Map(); // element -> {chart, rows}
const DASHES = ["solid", "dashed", "dotted", [8, 3, 2, 3]];
const ROWS = 100000; // of one answer, the most that the API gives
const ABOVE_LEGEND = 34; // pixels below a chart that has one

// ------------------------------------------------------------------ data

/** What JSON says. Integers beyond 2⁵³, such as ids that are hashes, are kept as text: exactly. */
function exact(json) {
  return JSON.parse(json, (_, value, context) => {
    const rounded = Number.isInteger(value) && !Number.isSafeInteger(value);
    return rounded && /^-?\d+$/.test(context?.source ?? "") ? context.source : value;
  });
}

/** All rows of a table of the API, as objects; follows its pages. */
async function table(address) {
  const rows = [];
  const first = new URL(address, window.location.href);
  first.searchParams.set("per_page", ROWS);
  for (let next = first; next;) {
    const answer = await fetch(next, { headers: { Accept: "application/json" } });
    const body = await answer.text().then(exact).catch(() => ({}));
    if (!answer.ok) throw new Error(body.error?.message ?? `The server answered ${answer.status}.`);
    for (const row of body.rows) {
      rows.push(Object.fromEntries(body.columns.map((name, at) => [name, row[at]])));
    }
    next = body.next;
  }
  return rows;
}

function shown(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 1e6 || Math.abs(value) < 1e-4
    ? value.toExponential(2)
    : String(Number(value.toPrecision(4)));
}

function named({ sample_id: id, class: name }) {
  return name === undefined || name === null || name === "all" ? String(id) : `${id} · ${name}`;
}

function groups(rows, key) {
  const found = new Map();
  for (const row of rows) {
    const name = key(row);
    if (!found.has(name)) found.set(name, []);
    found.get(name).push(row);
  }
  return found;
}

// ------------------------------------------------------------------ looks

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    text: of("text"), soft: of("soft"), line: of("line"), page: of("page"), panel: of("panel"),
    accent: of("accent"), focus: of("focus"),
    series: [1, 2, 3, 4, 5, 6, 7, 8].map((each) => of(`s${each}`)),
  };
}

function base(looks, tell, { bottom = 12 } = {}) {
  return {
    animation: false,
    color: looks.series,
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: looks.text },
    grid: { left: 12, right: 20, top: 16, bottom, outerBoundsMode: "same", outerBoundsContain: "all" },
    // Rich text is drawn on the canvas: no HTML, so no script and no style in it either.
    tooltip: {
      renderMode: "richText", confine: true, backgroundColor: looks.panel, borderColor: looks.line,
      textStyle: { color: looks.text, fontSize: 12 }, trigger: "item", formatter: tell,
    },
    aria: { enabled: true },
  };
}

function axis(looks, name, more = {}) {
  const { axisLabel, ...rest } = more;
  return {
    name, nameLocation: "middle", nameGap: 12, nameTextStyle: { color: looks.soft },
    axisLine: { lineStyle: { color: looks.line } }, axisTick: { lineStyle: { color: looks.line } },
    splitLine: { lineStyle: { color: looks.line, opacity: 0.6 } },
    axisLabel: { color: looks.soft, hideOverlap: true, ...axisLabel },
    ...rest,
  };
}

function legend(looks, more = {}) {
  return {
    type: "scroll", bottom: 2, left: 0, right: 0, padding: [4, 0],
    pageTextStyle: { color: looks.soft }, pageIconColor: looks.accent, pageIconInactiveColor: looks.line,
    icon: "circle", itemWidth: 10, itemHeight: 10, textStyle: { color: looks.text, lineHeight: 16 }, ...more,
  };
}

// ------------------------------------------------------------------ kinds of charts

function histogram(rows, looks, { score, low, high, log }) {
  const bins = rows.filter((each) => each.count !== null);
  const marked = low !== null || high !== null;
  const inside = (bin) => !marked || ((low === null || bin.high > low) && (high === null || bin.low < high));
  const tell = ({ dataIndex }) => {
    const bin = bins[dataIndex];
    return `${shown(bin.low)} to ${shown(bin.high)}\n${bin.count} samples`;
  };
  return {
    ...base(looks, tell),
    xAxis: axis(looks, score, { type: "value", min: bins[0].low, max: bins.at(-1).high, axisLabel: { formatter: shown, showMinLabel: false, showMaxLabel: false } }),
    yAxis: axis(looks, log ? "samples (log)" : "samples", { type: log ? "log" : "value", minInterval: 1, min: log ? 0.5 : 0 }),
    // No series follows the brush: the bars are coloured by what the address says.
    brush: { xAxisIndex: 0, seriesIndex: [], brushStyle: { color: "rgba(128,128,128,.18)", borderColor: looks.focus } },
    toolbox: { show: false },
    series: [{
      type: "custom", zlevel: 0, // ECharts 6.1 warns of its own default for this kind of series
      encode: { x: [0, 1], y: 2 },
      data: bins.map((bin) => [bin.low, bin.high, bin.count]),
      renderItem: (parameters, api) => {
        if (api.value(2) <= 0) return null;
        const [left, top] = api.coord([api.value(0), api.value(2)]);
        const [right] = api.coord([api.value(1), 0]);
        const bottom = parameters.coordSys.y + parameters.coordSys.height;
        return {
          type: "rect",
          shape: { x: left, y: top, width: Math.max(right - left - 1, 1), height: bottom - top },
          style: { fill: inside(bins[parameters.dataIndex]) ? looks.series[0] : looks.line },
        };
      },
    }],
  };
}

function classes(rows, looks, { score }) {
  const ordered = [...rows].reverse(); // the first row of a category axis is at the bottom
  const tell = ({ dataIndex }) => {
    const row = ordered[dataIndex];
    return [
      row.class, `median ${shown(row.median)}, mean ${shown(row.mean)}`,
      `middle half ${shown(row.q25)} to ${shown(row.q75)}`,
      `5 % to 95 % ${shown(row.q05)} to ${shown(row.q95)}`, `${row.n} samples`,
    ].join("\n");
  };
  return {
    ...base(looks, tell),
    xAxis: axis(looks, score, { type: "value", axisLabel: { formatter: shown }, scale: true }),
    yAxis: axis(looks, "", {
      type: "category", data: ordered.map((row) => row.class), splitLine: { show: false }, triggerEvent: true,
      axisLabel: { color: looks.text, width: 120, overflow: "truncate", interval: 0 },
    }),
    series: [{
      type: "boxplot", cursor: "pointer", boxWidth: [6, 18],
      itemStyle: { color: looks.panel, borderColor: looks.series[0], borderWidth: 1.5 },
      data: ordered.map((row) => [row.q05, row.q25, row.median, row.q75, row.q95]),
    }],
  };
}

function lines(series, looks, { x, y, yMore = {}, xMore = {} }) {
  const tell = (at) => `${at.seriesName}\n${x} ${shown(at.value[0])}: ${shown(at.value[1])}`;
  return {
    ...base(looks, tell, { bottom: ABOVE_LEGEND }),
    legend: legend(looks),
    xAxis: axis(looks, x, { type: "value", min: "dataMin", max: "dataMax", minInterval: 1, axisLabel: { formatter: shown }, ...xMore }),
    yAxis: axis(looks, y, { type: "value", axisLabel: { formatter: shown }, ...yMore }),
    series: series.map((each, at) => ({
      type: "line", showSymbol: each.data.length <= 25, symbolSize: 5, lineStyle: { width: 2, type: DASHES[Math.floor(at / looks.series.length) % DASHES.length] },
      emphasis: { focus: "series" }, triggerLineEvent: true, ...each,
    })),
  };
}

function curves(rows, looks, { by, step, loss }) {
  const key = by === "run" ? (row) => `${row.run_name} (${row.model})` : named;
  const found = [...groups(rows, (row) => `${row.run_id}\u0000${row.sample_id}`).values()];
  const series = found.map((part) => ({
    name: key(part[0]), sample: part[0].sample_id, data: part.map((row) => [row.step, row.loss]),
  }));
  return lines(series, looks, { x: step, y: loss, yMore: { min: 0 } });
}

function clusters(rows, looks, { step, loss }) {
  const series = [];
  for (const [number, part] of groups(rows, (row) => row.cluster)) {
    const colour = looks.series[(number - 1) % looks.series.length];
    const name = `${number}: ${part[0].trend}, ${part[0].n_samples} samples`;
    for (const curve of groups(part, (row) => `${row.kind} ${row.rank}`).values()) {
      const centre = curve[0].kind === "centre";
      series.push({
        name, sample: curve[0].sample_id, color: colour, showSymbol: false, z: centre ? 3 : 2,
        lineStyle: { width: centre ? 3.5 : 1.2, type: centre ? "solid" : "dashed", opacity: centre ? 1 : 0.75 },
        emphasis: { focus: "none" },
        data: curve.map((row) => [row.step, row.loss]),
      });
    }
  }
  return lines(series, looks, { x: step, y: loss, yMore: { min: 0 } });
}

function quantiles(rows, looks, { method, score }) {
  const chosen = rows.filter((row) => row.method === method && row.mean !== null);
  const series = [...groups(chosen, (row) => `${row.kind}\u0000${row.model_a}\u0000${row.model_b}`).values()].map((part) => {
    const same = part[0].kind === "same-model";
    return {
      name: same ? `${part[0].model_a}, two runs` : `${part[0].model_a} / ${part[0].model_b}`,
      lineStyle: { width: 2, type: same ? "dashed" : "solid" }, symbol: same ? "diamond" : "circle", symbolSize: 6,
      data: part.map((row) => [row.quantile, row.mean]),
    };
  });
  return lines(series, looks, { x: `quantile of ${score}`, y: method === "pearson" ? "Pearson’s r" : "Spearman’s ρ", xMore: { minInterval: 0 } });
}

function scatter(rows, looks, { x, y, xName, yName, correct }) {
  const finite = rows.filter((row) => row[x] !== null && row[y] !== null);
  const many = finite.length > 5000;
  const parts = correct && finite.some((row) => row[correct] !== null)
    ? [["as labelled", finite.filter((row) => row[correct])], ["not as labelled", finite.filter((row) => !row[correct])]]
    : [["samples", finite]];
  const tell = ({ value }) => `${named({ sample_id: value[2], class: value[3] })}\n${xName} ${shown(value[0])}\n${yName} ${shown(value[1])}`;
  return {
    ...base(looks, tell, parts.length > 1 ? { bottom: ABOVE_LEGEND } : {}),
    legend: parts.length > 1 ? legend(looks, { icon: undefined }) : { show: false },
    xAxis: axis(looks, xName, { type: "value", scale: true, axisLabel: { formatter: shown } }),
    yAxis: axis(looks, yName, { type: "value", scale: true, axisLabel: { formatter: shown } }),
    brush: { xAxisIndex: 0, yAxisIndex: 0, brushStyle: { color: "rgba(128,128,128,.15)", borderColor: looks.focus, borderWidth: 2 }, outOfBrush: { colorAlpha: 0.25 } },
    toolbox: { show: false },
    series: parts.map(([name, part], at) => ({
      type: "scatter", name, cursor: "crosshair", large: many, largeThreshold: 5000,
      progressive: 0, // drawn at once, and so below the box
      symbol: at === 0 ? "circle" : "triangle",
      symbolSize: many ? 2.5 : at === 0 ? 6 : 8, itemStyle: { opacity: many ? 0.45 : 0.6, color: looks.series[at] },
      data: part.map((row) => [row[x], row[y], row.sample_id, row.class]),
    })),
  };
}

const KINDS = { histogram, classes, curves, clusters, quantiles, scatter };

// ------------------------------------------------------------------ brushes and clicks

function field(form, name) {
  return form.elements.namedItem(name);
}

function fieldState(options) {
  if (!options.form) return "";
  const form = document.querySelector(options.form);
  return options.fields.map((name) => field(form, name).value).join(" ");
}

/** Brushing fills the fields of a form and sends it, so that the selection is in the address. */
function setUpBrush(element, chart, options) {
  const form = document.querySelector(options.form);
  const kind = options.brush;
  const rounded = (value) => (value === null ? "" : String(Number(value.toPrecision(5))));
  const present = options.fields.map((name) => field(form, name).value);
  chart.dispatchAction({ type: "takeGlobalCursor", key: "brush", brushOption: { brushType: kind, brushMode: "single" } });
  // A box is shown again; a range of the histogram is told by the colours of its bars.
  if (kind === "rect" && present.some((each) => each !== "")) {
    const limits = axisLimits(chart).flat();
    const [x0, x1, y0, y1] = present.map((each, at) => {
      const bound = each === "" ? limits[at] : Number(each);
      return at % 2 ? Math.min(bound, limits[at]) : Math.max(bound, limits[at]);
    });
    const coordRange = [[x0, x1], [y0, y1]];
    chart.dispatchAction({ type: "brush", areas: [{ brushType: kind, xAxisIndex: 0, yAxisIndex: 0, coordRange }] });
  }
  chart.on("brushEnd", ({ areas }) => {
    const range = areas.length ? areas[0].coordRange : null;
    const flat = range === null ? options.fields.map(() => null) : kind === "rect" ? range.flat() : range;
    options.fields.forEach((name, at) => { field(form, name).value = rounded(flat[at]); });
    if (kind === "rect") drawn.get(element).state = fieldState(options);
    form.requestSubmit();
  });
}

function axisLimits(chart) {
  const model = chart.getModel();
  return ["xAxis", "yAxis"].map((name) => model.getComponent(name).axis.scale.getExtent());
}

function go(address, name, value) {
  const target = new URL(address, window.location.href);
  target.searchParams.set(name, value);
  window.location.assign(target);
}

function setUpClicks(chart, kind, options) {
  if (kind === "classes") {
    chart.on("click", ({ componentType, value, name }) => {
      const target = new URL(window.location.href); // with the filters of now
      target.searchParams.delete("page");
      target.searchParams.set("class", componentType === "yAxis" ? value : name);
      window.location.assign(target);
    });
  }
  if ((kind === "curves" || kind === "clusters") && options.link) {
    chart.on("click", ({ seriesIndex }) => {
      const { sample } = chart.getOption().series[seriesIndex];
      if (sample !== null && sample !== undefined) go(options.link, "id", sample);
    });
  }
}

/** Images of the samples whose curves are closest to each centre (paper, Fig. 2). */
function showClosest(element, rows, { image, link }) {
  const place = element.closest("section").querySelector("[data-closest]");
  if (!place || place.childElementCount) return;
  const made = (tag, className, text = "") => {
    const found = document.createElement(tag);
    found.className = className;
    found.textContent = text;
    return found;
  };
  for (const [number, part] of groups(rows, (row) => row.cluster)) {
    const list = made("ul", "gallery");
    list.setAttribute("aria-label", `Closest to centre ${number}`);
    for (const [id, curve] of groups(part.filter((row) => row.kind === "closest"), (row) => row.sample_id)) {
      const tile = made("a", "tile");
      const target = new URL(link, window.location.href);
      target.searchParams.set("id", id);
      tile.href = target;
      if (image) {
        const frame = made("span", "frame");
        const shownImage = made("img", "");
        const source = new URL(image, window.location.href);
        source.searchParams.set("id", id);
        shownImage.alt = `sample ${id}`;
        shownImage.src = source;
        frame.dataset.missing = "image not found";
        frame.append(shownImage);
        tile.append(frame);
      }
      tile.append(made("span", "detail", named({ sample_id: id, class: curve[0].class })));
      const item = document.createElement("li");
      item.append(tile);
      list.append(item);
    }
    place.append(made("h3", "", `${number}: ${part[0].trend}, ${part[0].n_samples} samples`), list);
  }
}

// ------------------------------------------------------------------ life of a chart

function options(element) {
  const given = JSON.parse(element.dataset.options ?? "{}");
  if (element.dataset.chart === "histogram") {
    const now = new URLSearchParams(window.location.search);
    const number = (name) => (now.get(name) ? Number(now.get(name)) : null);
    return { ...given, low: number("low"), high: number("high") };
  }
  return given;
}

function message(element, text) {
  element.classList.remove("waiting");
  element.classList.add("empty");
  const message = document.createElement("p");
  message.className = "message";
  message.textContent = text;
  element.replaceChildren(message);
}

function paint(element, rows) {
  const kind = element.dataset.chart;
  const given = options(element);
  drawn.get(element)?.chart?.dispose();
  if (kind === "classes") element.style.setProperty("--rows", rows.length);
  const chart = echarts.init(element, null, { renderer: "canvas" });
  chart.setOption(KINDS[kind](rows, colours(), given));
  if (given.brush) setUpBrush(element, chart, given);
  setUpClicks(chart, kind, given);
  if (kind === "clusters") showClosest(element, rows, given);
  drawn.set(element, { chart, rows, state: fieldState(given) });
  element.dataset.drawn = String(Number(element.dataset.drawn ?? 0) + 1);
}

async function load(element) {
  element.classList.add("waiting");
  element.setAttribute("aria-busy", "true");
  try {
    const rows = await table(element.dataset.source);
    element.classList.remove("waiting");
    if (rows.length === 0) message(element, element.dataset.none ?? "There is nothing to draw.");
    else paint(element, rows);
  } catch (error) {
    message(element, error.message);
  } finally {
    element.removeAttribute("aria-busy");
  }
}

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting && !drawn.has(target)) {
      drawn.set(target, { chart: null, rows: null });
      seen.unobserve(target);
      load(target);
    }
  }
}, { rootMargin: "300px" });

const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) drawn.get(target)?.chart?.resize();
});

/** Load and draw each chart of the page once it comes near the window. */
export function drawCharts() {
  for (const element of document.querySelectorAll("[data-chart]")) {
    if (!drawn.has(element)) {
      seen.observe(element);
      sizes.observe(element);
    }
  }
}

/** Draw every chart again: the theme or the selection has changed. */
export function redrawCharts() {
  for (const [element, { rows }] of drawn) if (rows) paint(element, rows);
}

/** Draw again those charts whose selection has changed in their form. */
export function refreshCharts() {
  for (const [element, { rows, state }] of drawn) {
    if (rows && state !== fieldState(options(element))) paint(element, rows);
  }
}

/** Let go of charts whose elements are gone. */
export function forgetCharts() {
  for (const [element, { chart }] of drawn) {
    if (!element.isConnected) {
      chart?.dispose();
      drawn.delete(element);
    }
  }
}
