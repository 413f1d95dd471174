"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);
const ROWS = DATA.results.rows;
const METHODS = Object.keys(DATA.summaries);
const FAMILIES = [...new Set(ROWS.map((row) => row.family))];

// Every metric of a row: its name, its digits, and whether low is good.
const METRICS = {
  mse: { label: "MSE", digits: 0, low: true },
  psnr: { label: "PSNR", unit: " dB", digits: 2 },
  ssim: { label: "SSIM", digits: 3 },
  ssim_gaussian: { label: "SSIM, Gaussian", digits: 3 },
};
const REGIONS = { hole_: "the hole", "": "the whole image" };
const IMAGES = { all: "all given", common: "in common" };
const STATE = { metric: "mse", region: "hole_", images: "all", mask: 0 };
const ORDER = {};  // How each table is sorted: [column, whether descending].

// --- Helpers ---------------------------------------------------------------

const $ = (id) => document.getElementById(id);

/** Returns an element. Attributes that are functions listen to events. */
function make(tag, attributes = {}, ...children) {
  const svg = /^(svg|g|line|circle|text|path)$/.test(tag);
  const element = svg
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "style") element.style.cssText = value;
    else if (value !== null && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const metric = () => METRICS[STATE.metric];
const column = () => STATE.region + STATE.metric;
const inWords = () => `${metric().label} of ${REGIONS[STATE.region]}`;
const direction = () => (metric().low ? "lower is better" : "higher is better");
const metricText = (value) => number(value, decimals(value, metric().digits));
const known = (value) => value !== null && value !== undefined;
const means = (row) => (STATE.images === "common" ? row.common : row);
const rowOf = (method, mask) =>
  ROWS.find((row) => row.method === method && row.mask === mask);
const color = (method) => {
  const row = ROWS.find((row) => row.method === method);
  return `--family: var(--family-${FAMILIES.indexOf(row.family) % 6})`;
};
const nameOf = (method) => make("span", { class: "name" },
  make("span", { class: "dot", style: color(method) }), method);

/** Returns how many decimals a value is shown with: small errors get more. */
function decimals(value, digits) {
  return digits || (value < 10 ? 2 : value < 100 ? 1 : 0);
}

/** Returns a method's name that may break after its underscores. */
function brokenName(method) {
  const name = nameOf(method);
  const label = make("span");
  method.split("_").forEach((word, i, words) => label.append(
    word + (i < words.length - 1 ? "_" : ""), make("wbr")));
  name.lastChild.replaceWith(label);
  return name;
}

function number(value, digits) {
  if (!known(value)) return "–";
  return value.toLocaleString("en", {
    minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function seconds(value) {
  if (!known(value)) return "–";
  if (value < 1e-3) return `${Number((1e6 * value).toPrecision(3))} µs`;
  if (value < 1) return `${Number((1e3 * value).toPrecision(3))} ms`;
  return `${Number(value.toPrecision(3))} s`;
}

/** Orders two values: the better one first, missing ones last. */
function compare(a, b, low) {
  if (!known(a) || !known(b)) return known(b) - known(a);
  return low ? a - b : b - a;
}

const best = (values, low) => {
  const there = values.filter(known);
  return there.length > 1 ? Math[low ? "min" : "max"](...there) : undefined;
};

// --- Tables ----------------------------------------------------------------

/**
 * Fills a table whose columns sort it.
 *
 * A column is {title, value(row), show(row) or digits, low, attributes(row)};
 * `low` says that small values are good, and is undefined where none are.
 */
function fillTable(table, columns, rows, caption) {
  const [sorted, descending] = ORDER[table.id] ?? [];
  if (columns[sorted]) {
    const { value } = columns[sorted];
    const sign = descending ? -1 : 1;
    rows = [...rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (!known(x) || !known(y)) return known(y) - known(x);
      return sign * (typeof x === "string" ? x.localeCompare(y) : x - y);
    });
  }
  const head = columns.map((column, i) => make("th", {
    scope: "col",
    "aria-sort": i === sorted ? (descending ? "descending" : "ascending") : null,
  }, make("button", {
    type: "button",
    class: "sort",
    click() {
      // The good end first, then the bad one.
      const first = column.low === false;
      ORDER[table.id] = [i, i === sorted ? !descending : first];
      fillTable(table, columns, rows, caption);
      table.querySelectorAll(".sort")[i].focus({ preventScroll: true });
    },
  }, column.title)));
  const bests = columns.map(({ low, value }) =>
    low === undefined ? undefined : best(rows.map(value), low));
  const body = rows.map((row) => make("tr", {}, ...columns.map((column, i) => {
    const value = column.value(row);
    const isBest = known(value) && value === bests[i];
    return make(i ? "td" : "th", {
      scope: i ? null : "row",
      class: [isBest ? "best" : "", column.heat ? "heat" : ""].join(" ").trim()
        || null,
      style: column.heat?.(row) ?? null,
    }, column.show ? column.show(row)
      : number(value, decimals(value, column.digits)));
  })));
  table.replaceChildren(
    make("caption", { class: "skip" }, caption),
    make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
}

/** Returns a cell's mean with its interval. */
function withInterval(row, name, digits) {
  const mean = row?.[name];
  const half = row?.[`${name}_ci95`];
  if (!known(mean)) return "–";
  digits = decimals(mean, digits);
  return make("span", {}, number(mean, digits),
    known(half) ? make("small", {}, ` ± ${number(half, digits)}`) : "");
}

const methodColumn = {
  title: "Method", value: (row) => row.method, show: (row) => nameOf(row.method),
};

function drawMatrix() {
  const masks = DATA.masks.map((mask) => mask.name);
  const rows = METHODS.map((method) => ({
    method,
    values: masks.map((mask) => means(rowOf(method, mask))?.[column()] ?? null),
  }));
  masks.forEach((_, i) => {
    const order = rows.map((row) => row.values[i]).filter(known)
      .sort((a, b) => compare(a, b, metric().low));
    for (const row of rows) {
      const rank = order.indexOf(row.values[i]);
      (row.ranks ??= []).push(rank < 0 ? null : rank + 1);
    }
  });
  for (const row of rows) {
    const ranks = row.ranks.filter(known);
    row.rank = ranks.length
      ? ranks.reduce((sum, rank) => sum + rank, 0) / ranks.length : null;
  }
  ORDER.matrix ??= [1, false];
  fillTable($("matrix"), [
    methodColumn,
    { title: "Mean rank", value: (row) => row.rank, digits: 1, low: true },
    ...masks.map((mask, i) => ({
      title: mask,
      value: (row) => row.values[i],
      digits: metric().digits,
      low: Boolean(metric().low),
      heat(row) {
        const places = Math.max(1, METHODS.length - 1);
        const share = known(row.ranks[i]) ? 1 - (row.ranks[i] - 1) / places : 0;
        return `--heat: ${Math.round(52 * share ** 1.6)}`;
      },
    })),
  ], rows, inWords());
  $("overview-note").textContent = `${inWords()}, the mean over the images; ` +
    `${direction()}. The greener, the better the rank under that mask; ` +
    "a click on a heading sorts.";
}

function drawMetrics(mask) {
  const rows = METHODS.map((method) => rowOf(method, mask));
  const metricColumn = (region, name) => ({
    title: (region ? "Hole " : "") + METRICS[name].label,
    value: (row) => means(row)[region + name],
    show: (row) =>
      withInterval(means(row), region + name, METRICS[name].digits),
    low: Boolean(METRICS[name].low),
  });
  ORDER.metrics ??= [1, false];
  fillTable($("metrics"), [
    methodColumn,
    ...Object.keys(METRICS).map((name) => metricColumn("hole_", name)),
    ...Object.keys(METRICS).map((name) => metricColumn("", name)),
    { title: "Time an image", value: (row) => row.seconds_per_image, low: true,
      show: (row) => seconds(row.seconds_per_image) },
    { title: "Images/s", value: (row) => row.images_per_second, low: false,
      show: (row) => number(row.images_per_second,
        decimals(row.images_per_second, 0)) },
    { title: "Fit", value: (row) => row.fit_seconds,
      show: (row) => seconds(row.fit_seconds) },
    { title: "Images", value: (row) => means(row).n,
      show: (row) => means(row).n.toLocaleString("en") },
    { title: "Failures", value: (row) => row.failures,
      show: (row) => make("span", { class: row.failures ? "failures" : "" },
        String(row.failures)) },
  ], rows, `All metrics, ${mask}`);
}

function drawAreas() {
  const areas = [...new Set(ROWS.flatMap((row) =>
    row.by_hole_area.map((area) => area.hole_area)))]
    .sort((a, b) => parseInt(a) - parseInt(b));
  const rows = METHODS.map((method) => {
    const values = areas.map((area) => {
      const bins = ROWS.filter((row) => row.method === method)
        .flatMap((row) => row.by_hole_area)
        .filter((bin) => bin.hole_area === area && known(bin[column()]));
      const n = bins.reduce((sum, bin) => sum + bin.n, 0);
      return n && bins.reduce((sum, bin) => sum + bin.n * bin[column()], 0) / n;
    });
    return { method, values: values.map((value) => value || null) };
  });
  ORDER.areas ??= [1, !metric().low];
  fillTable($("areas"), [methodColumn, ...areas.map((area, i) => ({
    title: area, value: (row) => row.values[i], digits: metric().digits,
    low: Boolean(metric().low),
  }))], rows, `${inWords()} by the area of the hole`);
}

// --- Charts ----------------------------------------------------------------

function ranked(mask) {
  return METHODS.map((method) => rowOf(method, mask))
    .filter((row) => known(means(row)[column()]))
    .sort((a, b) =>
      compare(means(a)[column()], means(b)[column()], metric().low));
}

/** Returns the popup of a method's row. */
function rowPopup(row) {
  const values = means(row);
  return () => popupContent(row.method, `${row.family} · ${row.mask}`, [
    ...["hole_", ""].flatMap((region) => Object.entries(METRICS).map(
      ([name, { label, digits }]) => [
        (region ? "Hole " : "") + label,
        withInterval(values, region + name, digits)])),
    ["Time an image", seconds(row.seconds_per_image)],
    ["Images", `${values.n}` + (row.failures ? `, ${row.failures} failed` : "")],
  ]);
}

function drawBars(mask) {
  const rows = ranked(mask);
  const upper = Math.max(...rows.map((row) => means(row)[column()]
    + (means(row)[`${column()}_ci95`] ?? 0)), 1e-9);
  const place = (value) => Math.max(0, Math.min(100, 100 * value / upper));
  $("bars-title").replaceChildren(
    make("strong", {}, inWords()), `${direction()}; lines are 95 % intervals`);
  $("bars").replaceChildren(...rows.map((row) => {
    const mean = means(row)[column()];
    const half = means(row)[`${column()}_ci95`];
    const [low, high] = [place(mean - half), place(mean + half)];
    const item = make("li", { style: color(row.method) },
      make("span", { class: "name" }, make("span", { class: "dot" }),
        make("span", { class: "label" }, row.method)),
      make("span", { class: "track" },
        make("span", { class: "bar", style: `width: ${place(mean)}%` }),
        known(half) ? make("span", { class: "whisker",
          style: `left: ${low}%; width: ${high - low}%` }) : null),
      make("span", { class: "value" },
        withInterval(means(row), column(), metric().digits)));
    listen(item, rowPopup(row));
    return item;
  }));
}

/** Returns some round numbers within [low, high]. */
function ticks(low, high, count = 5) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((s) => s * power >= rough) * power;
  const values = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) {
    values.push(i * step);
  }
  return values;
}

function drawScatter(mask) {
  const rows = ranked(mask);
  $("scatter-title").replaceChildren(
    make("strong", {}, "Error against time"),
    "the dashed line joins methods that no other beats in both");
  const width = $("scatter").clientWidth || 400;
  // As high as the bars beside it; on a phone they are above it.
  const height = Math.max(320, innerWidth > 640 ? $("bars").clientHeight : 0);
  const [left, right, top, bottom] = [48, 14, 12, 42];
  const times = rows.map((row) => Math.log10(row.seconds_per_image));
  const ends = rows.flatMap((row) => [-1, 1].map((sign) =>
    means(row)[column()] + sign * (means(row)[`${column()}_ci95`] ?? 0)));
  let [x0, x1] = [Math.min(...times) - .25, Math.max(...times) + .25];
  const spread = (Math.max(...ends) - Math.min(...ends)) || 1;
  const y0 = Math.min(...ends) - .06 * spread;
  const y1 = Math.max(...ends) + .06 * spread;
  const x = (t) => left + (t - x0) / (x1 - x0) * (width - left - right);
  const y = (v) => height - bottom - (v - y0) / (y1 - y0)
    * (height - top - bottom);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, height,
    role: "group", "aria-label": `${inWords()} against seconds an image, ` +
      "the values of the table below" });

  for (const value of ticks(y0, y1)) {
    svg.append(
      make("line", { class: "grid", x1: left, x2: width - right, y1: y(value),
        y2: y(value) }),
      make("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" },
        value.toLocaleString("en", { maximumFractionDigits: 3 })));
  }
  const steps = x1 - x0 > 2 ? [0] : [0, Math.log10(2), Math.log10(5)];
  for (let decade = Math.floor(x0); decade <= x1; decade++) {
    for (const step of steps) {
      const t = decade + step;
      if (t < x0 || t > x1) continue;
      svg.append(
        make("line", { class: "grid", x1: x(t), x2: x(t), y1: top,
          y2: height - bottom }),
        make("text", { x: x(t), y: height - bottom + 17,
          "text-anchor": "middle" }, seconds(10 ** t)));
    }
  }
  svg.append(make("text", { x: (left + width - right) / 2, y: height - 6,
    "text-anchor": "middle" }, "time an image, logarithmic"));

  // From the fastest, every method that is better than all faster ones.
  let record = metric().low ? Infinity : -Infinity;
  const front = rows.map((row, i) => [times[i], means(row)[column()]])
    .sort((a, b) => a[0] - b[0])
    .filter(([, value]) => {
      const better = metric().low ? value < record : value > record;
      if (better) record = value;
      return better;
    });
  svg.append(make("path", { class: "front",
    d: front.map(([t, v], i) => `${i ? "L" : "M"}${x(t)} ${y(v)}`).join("") }));

  const taken = rows.map((row, i) => {
    const [cx, cy] = [x(times[i]), y(means(row)[column()])];
    return [cx - 7, cy - 7, cx + 7, cy + 7];
  });
  rows.forEach((row, i) => {
    const mean = means(row)[column()];
    const half = means(row)[`${column()}_ci95`] ?? 0;
    const [cx, cy] = [x(times[i]), y(mean)];
    const point = make("g", { class: "point", tabindex: 0, role: "img",
      style: color(row.method), "aria-label": `${row.method}: ` +
        `${metricText(mean)}, ${seconds(row.seconds_per_image)}` },
      make("line", { x1: cx, x2: cx, y1: y(mean - half), y2: y(mean + half) }),
      make("circle", { cx, cy, r: 6 }),
      make("circle", { class: "hit", cx, cy, r: 14 }));
    // The first place beside the point at which the name covers nothing.
    const wide = 6.6 * row.method.length;
    const places = [[11, 4, "start"], [-11, 4, "end"], [0, -12, "middle"],
      [0, 20, "middle"], [10, -9, "start"], [-10, -9, "end"],
      [10, 16, "start"], [-10, 16, "end"]];
    for (const [dx, dy, anchor] of places) {
      const start = cx + dx - { start: 0, middle: wide / 2, end: wide }[anchor];
      const box = [start, cy + dy - 10, start + wide, cy + dy + 3];
      const free = box[0] > left && box[2] < width && box[1] > 0
        && box[3] < height - bottom && taken.every((other, j) => j === i
          || box[2] < other[0] || other[2] < box[0]
          || box[3] < other[1] || other[3] < box[1]);
      if (!free) continue;
      taken.push(box);
      svg.append(make("text", { class: "label", x: cx + dx, y: cy + dy,
        "text-anchor": anchor, "aria-hidden": true }, row.method));
      break;
    }
    listen(point, rowPopup(row));
    svg.append(point);
  });
  $("scatter").replaceChildren(svg);
}

// --- Pictures --------------------------------------------------------------

function drawSheet(mask) {
  const methods = ranked(mask.name).map((row) => row.method)
    .concat(METHODS).filter((method, i, all) => all.indexOf(method) === i);
  const head = ["original", "masked", ...methods].map((name) =>
    make("th", { scope: "col" },
      METHODS.includes(name) ? brokenName(name) : name));
  const body = mask.masked.map((masked, i) => {
    const { name, original } = DATA.images[i];
    const value = (method) => mask.metrics[method][column()][i];
    const top = best(methods.map(value), metric().low);
    const plain = (source, label) =>
      make("img", { src: source, alt: `${name}, ${label}`, width: 88,
        height: 88 });
    return make("tr", {},
      make("th", { scope: "row" }, plain(original, "original")),
      make("td", {}, plain(masked, "masked")),
      ...methods.map((method) => {
        const source = mask.completed[method][i];
        if (!source) return make("td", {}, "–");
        const failed = !known(mask.metrics[method].mse[i]);
        const text = failed ? "failed"
          : `${inWords()} ${metricText(value(method))}`;
        const button = make("button", { type: "button" },
          make("img", { src: source, alt: `${name}, ${method}: ${text}`,
            width: 88, height: 88 }));
        listen(button, () => picturePopup(mask, method, i));
        return make("td", { class: failed ? "failed"
          : value(method) === top ? "best" : null }, button);
      }));
  });
  $("sheet").replaceChildren(
    make("caption", { class: "skip" }, `Completed images, ${mask.name}`),
    make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
}

function picturePopup(mask, method, i) {
  const metrics = mask.metrics[method];
  const rank = METHODS.map((name) => mask.metrics[name][column()][i])
    .filter(known).sort((a, b) => compare(a, b, metric().low))
    .indexOf(metrics[column()][i]) + 1;
  const view = (source, label) => make("figure", {},
    make("img", { src: source, alt: label }),
    make("figcaption", {}, label));
  const table = Object.entries(METRICS).map(([name, { label, digits }]) => [
    label, ...["hole_", ""].map((region) => {
      const value = metrics[region + name][i];
      return number(value, decimals(value, digits));
    })]);
  return popupContent(method,
    `${DATA.images[i].name} · ${mask.name}` + (rank
      ? ` · place ${rank} of ${METHODS.length} by ${inWords()}` : " · failed"),
    [["", "hole", "whole"], ...table],
    make("div", { class: "views" },
      view(DATA.images[i].original, "original"), view(mask.masked[i], "masked"),
      view(mask.completed[method][i], method)));
}

// --- The popup: at the pointer, or at the foot of a small screen -------------

let pinned = null;  // The element that was tapped or clicked.

function popupContent(title, subtitle, lines, ...before) {
  return [make("h4", {}, title), make("p", {}, subtitle), ...before,
    make("table", {}, make("tbody", {}, ...lines.map(([label, ...values]) =>
      make("tr", {}, make("th", { scope: "row" }, label),
        ...values.map((value) => make("td", {}, value))))))];
}

function showPopup(element, content) {
  const popup = $("popup");
  popup.replaceChildren(...content());
  popup.hidden = false;
  const at = element.getBoundingClientRect();
  const own = popup.getBoundingClientRect();
  const gap = 12;
  const beside = at.right + gap + own.width < innerWidth
    ? at.right + gap : at.left - gap - own.width;
  popup.style.left = `${Math.max(gap, Math.min(beside,
    innerWidth - own.width - gap))}px`;
  popup.style.top = `${Math.max(gap, Math.min(
    at.top + at.height / 2 - own.height / 2,
    innerHeight - own.height - gap))}px`;
}

function hidePopup() {
  pinned = null;
  $("popup").hidden = true;
}

/** Shows content while an element is pointed at, tapped or focused. */
function listen(element, content) {
  const show = () => showPopup(element, content);
  element.addEventListener("pointerenter", (event) => {
    if (event.pointerType === "mouse" && !pinned) show();
  });
  element.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse" && !pinned) hidePopup();
  });
  element.addEventListener("focus", () => {
    if (element.matches(":focus-visible")) show();
  });
  element.addEventListener("blur", hidePopup);
  element.addEventListener("click", (event) => {
    event.stopPropagation();
    if (pinned === element) return hidePopup();
    show();
    pinned = element;
  });
}

document.addEventListener("click", hidePopup);
document.addEventListener("scroll", hidePopup, { capture: true, passive: true });
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hidePopup();
});

// --- The page --------------------------------------------------------------

function draw() {
  hidePopup();
  const mask = DATA.masks[STATE.mask];
  drawMatrix();
  $("chips").querySelectorAll("button").forEach((chip, i) =>
    chip.setAttribute("aria-pressed", i === STATE.mask));
  $("hole-note").textContent = `${mask.name}: ` +
    `${number(100 * mask.hole_share, 1)} % of each image is hole on average.`;
  drawBars(mask.name);
  drawScatter(mask.name);
  drawMetrics(mask.name);
  drawSheet(mask);
  drawAreas();
}

function fillSelect(name, options) {
  $(name).append(...Object.entries(options).map(([value, label]) =>
    make("option", { value, selected: STATE[name] === value }, label)));
  $(name).addEventListener("change", () => {
    STATE[name] = $(name).value;
    if (name === "metric") delete ORDER.areas;
    draw();
  });
}

function fillPage() {
  const { config, devices, versions, date } = DATA.results;
  const most = Math.max(...ROWS.map((row) => row.n + row.failures));
  const failures = ROWS.reduce((sum, row) => sum + row.failures, 0);
  const step = ROWS.find((row) => known(row.step))?.step;
  $("lead").textContent = "The same holes in the same images, filled by " +
    `${METHODS.length} methods and scored by one function.`;
  const facts = {
    Images: `${most.toLocaleString("en")}, ${config.data.name} ` +
      `(${config.data.split})`,
    Methods: METHODS.length,
    Holes: DATA.masks.length,
    Failures: failures,
    Model: known(step) ? `step ${step.toLocaleString("en")}` : "none",
    Device: `${devices.count} × ${devices.kind}`,
    Date: date.slice(0, 10),
  };
  $("facts").append(...Object.entries(facts).map(([label, value]) =>
    make("div", {}, make("dt", {}, label), make("dd", {}, String(value)))));
  fillSelect("metric", Object.fromEntries(Object.entries(METRICS).map(
    ([name, { label }]) => [name, label])));
  fillSelect("region", REGIONS);
  fillSelect("images", IMAGES);
  $("legend").append(...FAMILIES.map((family) => make("li", { class: "name" },
    make("span", { class: "dot",
      style: color(ROWS.find((row) => row.family === family).method) }),
    family)));
  $("chips").append(...DATA.masks.map((mask, i) => make("button", {
    type: "button",
    click() { STATE.mask = i; draw(); },
  }, make("img", { src: mask.masked[0], alt: "" }), mask.name)));

  const fewer = ROWS.filter((row) => row.n + row.failures < most)
    .map((row) => row.method);
  const slow = [...new Set(fewer)].join(", ");
  $("how").append(...[
    "Errors are on the 8-bit scale, over the three colours. MSE and PSNR of " +
    "the hole are taken over its pixels alone; those of the whole image over " +
    "all pixels, of which the known ones are exact. SSIM is scikit-image's " +
    "default, a uniform window of 7x7, and the Gaussian one that of Wang et " +
    "al. (2004). Of the hole, it is the mean of the local map there.",
    "± is half the 95 % interval of the mean over the images, by Student's t.",
    "Times are of filling alone, without compilation; the time of a fit to " +
    "training images is separate. An image for which a method raised an " +
    "error, or returned something that is no finite number, counts as a " +
    "failure, and the means are over the others.",
    slow && `Fewer images went to the slow methods: ${slow}. ` +
    "“In common” takes every method's means over the same images: those that " +
    "all of them completed under that mask.",
    "The pictures here are slightly compressed (WebP); contact_sheets/ has " +
    "the originals, and results.csv and figures.npz have every value.",
  ].filter(Boolean).map((text) => make("p", {}, text)));
  $("methods").append(...METHODS.flatMap((method) => [
    make("dt", {}, nameOf(method)),
    make("dd", {}, DATA.summaries[method])]));
  fillTable($("masks"), [
    { title: "Mask", value: (mask) => mask.name, show: (mask) => mask.name },
    { title: "Hole, %", value: (mask) => 100 * mask.hole_share, digits: 1 },
    { title: "Digest", value: (mask) => mask.digest,
      show: (mask) => mask.digest },
  ], DATA.masks, "Masks");
  $("run").textContent = [DATA.results.command, "",
    JSON.stringify({ commit: DATA.results.commit, versions, devices, config },
      null, 2)].join("\n");
  draw();
}

$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = getComputedStyle(root).colorScheme === "dark"
    || (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  root.dataset.theme = dark ? "light" : "dark";
  $("theme").textContent = dark ? "Dark" : "Light";
});
if (matchMedia("(prefers-color-scheme: dark)").matches) {
  $("theme").textContent = "Light";
}

let drawnWidth = innerWidth;
addEventListener("resize", () => {
  // Phones resize as their bars come and go; only the width matters.
  if (innerWidth === drawnWidth) return;
  drawnWidth = innerWidth;
  drawScatter(DATA.masks[STATE.mask].name);
});

fillPage();
