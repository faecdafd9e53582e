// The page of a Lodestone server. All it shows is from the HTTP API of the server that served it, at relative
// addresses, so that it works behind a proxy with a path. Text goes in as text nodes and is never parsed as HTML:
// names are what clients sent.

const POLL_MS = 1000; // of the status
const RECOUNTED_S = 25; // between two statuses, after which their counters are not compared
const REQUEST_MS = 5000; // until a status counts as not answered
const WINDOW_S = 120; // of the plots
const NAMESPACES_MS = 5000; // of the namespaces, and of those that are open
const CHUNK = 100; // Services added to the tree at once
const REREAD = 1000; // Services of an open namespace, up to which it is read again and again
const INLINE = 4; // addresses beside a name
const DETAILS = 200; // further records of one Service
const ROWS = 200; // queries kept
const DRAW_MS = 200; // between two drawings of the list, whatever the rate
const RETRY_MS = 1000; // between two attempts at the stream of queries
const HIDDEN_MS = 5 * 60_000; // in the background, after which the page asks for nothing
const RCODES = ["NOERROR", "NXDOMAIN", "SERVFAIL"]; // with an area of their own; "other" is the rest
const MARKS = { NOERROR: "✓", NXDOMAIN: "∅", SERVFAIL: "✗" };

const byId = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** An element with these properties and children; strings become text nodes. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Sets a text that is read out when it changes, so only when it does. */
function announce(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

/** The response of the API at this path; the error is its text for people. */
async function request(path, signal) {
  const response = await fetch(path, { signal, cache: "no-store" });
  if (response.ok) return response;
  const text = await response.text();
  let message = text || `HTTP status ${response.status}`;
  try {
    message = JSON.parse(text).error ?? message;
  } catch {
    // Not JSON: the text itself.
  }
  throw new Error(message);
}

/** Calls `onLine` with each object of an NDJSON response, until it ends. */
async function readLines(path, signal, onLine, onOpen = () => {}) {
  const response = await request(path, signal);
  onOpen();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const lines = (rest + (done ? "\n" : value)).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) onLine(JSON.parse(line));
    if (done) return;
  }
}

/** A query string without empty parameters. */
const query = (parameters) => new URLSearchParams(Object.entries(parameters).filter(([, value]) => value)).toString();

function duration(seconds) {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}

/** A time of three digits, from microseconds to seconds. */
function shortTime(seconds) {
  const [factor, unit] = seconds < 1e-3 ? [1e6, "µs"] : seconds < 1 ? [1e3, "ms"] : [1, "s"];
  return `${Number((seconds * factor).toPrecision(3))} ${unit}`;
}

const number = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });

const plural = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;

/** The mark of an rcode: differs in sign, text and border, not in colour alone. */
const rcodeMark = (rcode) => make("span", { className: `rcode ${rcode}` }, `${MARKS[rcode] ?? "!"} ${rcode}`);

/** A name that is explained when it is chosen. */
const nameButton = (text, explained) => make("button", { className: "name", type: "button", tabIndex: -1, onclick: explained }, text);

// Keyboard: in a list, the arrow keys, Home and End move between names, so that Tab passes it in one step.

function moveByArrows(list) {
  const visible = (selector) => [...list.querySelectorAll(selector)].filter((it) => it.checkVisibility());
  list.addEventListener("keydown", (event) => {
    const all = visible("button, summary");
    const at = all.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (at < 0 || to === undefined || !all[to]) return;
    event.preventDefault();
    all[to].focus();
  });
  const setStop = (name) => {
    for (const other of list.querySelectorAll('button.name[tabindex="0"]')) other.tabIndex = -1;
    if (name) name.tabIndex = 0;
  };
  list.addEventListener("focusin", ({ target }) => target.matches("button.name") && setStop(target));
  // The name that Tab reaches may have been removed or hidden: the first one takes its place.
  new MutationObserver(() => {
    if (!list.querySelector('button.name[tabindex="0"]')?.checkVisibility()) setStop(visible("button.name")[0]);
  }).observe(list, { childList: true, subtree: true, attributeFilter: ["hidden", "open"] });
}

// Status and plots

const intervals = []; // differences of two successive counters, of the last two minutes
let previous = null; // the last status, and when it was read

function showStatus(status) {
  const cluster = status.cluster;
  const parts = [`version ${status.version}`, `configuration ${status.configuration}`, `up ${duration(status.uptime_s)}`];
  const state = cluster?.state ?? "none in the configuration";
  const isGood = state === "synced" || !cluster;
  parts.push(make("strong", { className: isGood ? "" : "alert" }, `${isGood ? "" : "! "}cluster: ${state}`));
  const resources = cluster?.resources ?? [];
  if (resources.length) {
    const counts = resources.map(({ name, count, age_s: age }) => `${number(count)} ${name}${age === null ? " (not read yet)" : ""}`);
    parts.push(`${counts.join(", ")}, age at most ${duration(Math.max(...resources.map(({ age_s: age }) => age ?? 0)))}`);
  }
  const zones = status.zones.map(({ listener, zone }) => `${zone} at ${listener}`);
  parts.push(`zones: ${zones.slice(0, INLINE).join(", ")}${zones.length > INLINE ? ` and ${zones.length - INLINE} more` : ""}`);
  byId("status").replaceChildren(...parts.map((part) => make("li", {}, part)));
}

/** Adds the time since the previous status to the plots. */
function addInterval(status, now) {
  const { counters } = status;
  // The server counts while it is asked: without a question for long, and in another process, it begins anew.
  const isSame = previous?.pid === status.pid && previous.counters.queries <= counters.queries && now - previous.now < RECOUNTED_S;
  const before = isSame ? previous : null;
  if (before) {
    const seconds = now - before.now;
    const rcodes = Object.fromEntries([...RCODES, "other"].map((rcode) => [rcode, 0]));
    for (const [rcode, total] of Object.entries(counters.rcodes)) {
      rcodes[rcode in rcodes ? rcode : "other"] += (total - (before.counters.rcodes[rcode] ?? 0)) / seconds;
    }
    const latency = counters.latency.map(([bound, total], at) => [bound, total - (before.counters.latency[at]?.[1] ?? 0)]);
    const rate = (counters.queries - before.counters.queries) / seconds;
    intervals.push({ from: before.now, to: now, rate, rcodes, median: quantile(latency, 0.5), p99: quantile(latency, 0.99) });
  }
  while (intervals.length && intervals[0].to < now - WINDOW_S) intervals.shift();
  previous = { pid: status.pid, counters, now };
}

/** The bound of the histogram's bucket that a quantile is in: Infinity for the last, null without any query. */
function quantile(buckets, share) {
  const total = buckets.at(-1)?.[1] ?? 0;
  return total ? (buckets.find(([, count]) => count >= share * total)[0] ?? Infinity) : null;
}

/** A line of horizontal steps, one an interval, with a gap where there is no value. `y` is 0 at the bottom, 1 at the top. */
function steps(now, y) {
  let path = "";
  let joined = null;
  for (const interval of intervals) {
    const height = y(interval);
    const [from, to] = [interval.from, interval.to].map((at) => Math.max(0, WINDOW_S - now + at).toFixed(2));
    if (height !== null) path += `${joined === interval.from ? "L" : "M"}${from} ${(39 - 38 * height).toFixed(2)}H${to}`;
    joined = height === null ? null : interval.to;
  }
  return path;
}

/** Shows a plot's paths (class and line), its current value in text, and a note on its scale. */
function plot(id, paths, value, note) {
  const figure = byId(id);
  const elements = paths.map(([name, line]) => {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("class", name);
    path.setAttribute("d", line);
    return path;
  });
  const svg = figure.querySelector("svg");
  svg.replaceChildren(...elements);
  figure.querySelector(".value").replaceChildren(...value);
  svg.setAttribute("aria-label", `${figure.querySelector("h3").textContent}: ${figure.querySelector(".value").textContent}. ${note}`);
  figure.querySelector(".note").textContent = note;
}

/** The next of 1, 2, 5, 10, 20, ... */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((factor) => factor * power >= value) * power;
}

function drawPlots(now, bounds) {
  const last = intervals.at(-1);
  if (!last) return;
  const most = Math.max(...intervals.map(({ rate }) => rate));
  const top = roundUp(Math.max(1, most));
  plot("plot-rate", [["", steps(now, ({ rate }) => rate / top)]], [`${number(last.rate)}/s, at most ${number(most)}/s`], `0 to ${number(top)}/s`);

  // Each area is drawn from the bottom, the highest first: later ones cover all but their own share.
  const names = [...RCODES, "other"];
  const areas = names.map((name, at) => {
    const sum = ({ rcodes }) => names.slice(0, at + 1).reduce((sum, rcode) => sum + rcodes[rcode], 0);
    const line = steps(now, (interval) => Math.min(1, sum(interval) / top));
    return [`area ${name}`, line && line.replaceAll(/M([\d.]+) /g, "V39M$1 39L$1 ").replace(/^V39/, "") + "V39Z"];
  });
  const values = names.map((name) => make("span", { className: `key ${name}` }, `${name} ${number(last.rcodes[name])}`));
  plot("plot-rcodes", areas.reverse(), values, `stacked, 0 to ${number(top)}/s`);

  const [low, high] = [bounds[0], bounds.at(-1)];
  const shown = (bound) => (bound === null ? null : bound === Infinity ? 1 : (0.9 * Math.log(bound / low)) / Math.log(high / low));
  const text = (bound) => (bound === Infinity ? `above ${shortTime(high)}` : `up to ${shortTime(bound)}`);
  const value = last.median === null ? "no query in the last second" : `median ${text(last.median)}, p99 ${text(last.p99)}`;
  const lines = ["median", "p99"].map((name) => [name, steps(now, (interval) => shown(interval[name]))]);
  const bins = `${shortTime(low)}, ${shortTime(bounds[1])}, … ${shortTime(high)}`;
  const note = `median: line, p99: dashes. Logarithmic; resolution: bounds ${bins}`;
  plot("plot-latency", lines, [value], note);
}

async function followStatus() {
  let answered = Date.now();
  for (;;) {
    await watched();
    try {
      const status = await (await request("api/status", AbortSignal.timeout(REQUEST_MS))).json();
      const now = performance.now() / 1000;
      answered = Date.now();
      announce("away", "");
      showStatus(status);
      addInterval(status, now);
      drawPlots(now, status.counters.latency.map(([bound]) => bound).filter((bound) => bound !== null));
    } catch (error) {
      console.info("status:", error);
      announce("away", `No answer from the server since ${new Date(answered).toLocaleTimeString()}. Trying again.`);
    }
    await sleep(POLL_MS);
  }
}

// The tree

const namespaces = new Map(); // by name
let filter = "";

/** The Service of a record: `web` for `_http._tcp.web.shop.svc.cluster.local.` in the namespace `shop`. */
function serviceOf(name, namespace) {
  const end = name.indexOf(`.${namespace}.svc.`);
  return end < 0 ? name : name.slice(name.lastIndexOf(".", end - 1) + 1, end);
}

/** A part of a list, and how many are left out. */
const some = (texts, most) => texts.slice(0, most).join(", ") + (texts.length > most ? ` and ${number(texts.length - most)} more` : "");

class Service {
  row = null; // made when it is first shown

  constructor(name, namespace, records) {
    const isOwn = (record) => record.name.startsWith(`${name}.${namespace}.svc.`) && ["A", "AAAA", "CNAME"].includes(record.type);
    this.name = name;
    this.own = records.filter(isOwn);
    this.others = records.filter((record) => !isOwn(record));
    this.text = records.map((record) => `${record.name} ${record.type} ${record.data}`).join("\n").toLowerCase();
  }

  element() {
    this.row ??= this.#make();
    return this.row;
  }

  #make() {
    const first = this.own[0] ?? this.others[0];
    const button = nameButton(this.name, () => explain({ name: first.name, type: first.type }));
    const row = make("li", {}, button, " ", make("span", { className: "data" }, some(this.own.map((it) => it.data), INLINE)));
    if (this.others.length === 0) return row;
    const list = make("ul");
    const more = make("details", {}, make("summary", { className: "note", tabIndex: -1 }, plural(this.others.length, "further record")), list);
    more.addEventListener("toggle", () => {
      if (!more.open || list.childElementCount) return;
      for (const { name, type, data } of this.others.slice(0, DETAILS)) {
        const button = nameButton(name, () => explain({ name, type }));
        list.append(make("li", {}, button, make("span", { className: "data" }, ` ${type} ${data}`)));
      }
      if (this.others.length > DETAILS) list.append(make("li", { className: "note" }, `and ${number(this.others.length - DETAILS)} more`));
    });
    row.append(more);
    return row;
  }
}

class Namespace {
  services = null; // by name; null until they are read
  limit = CHUNK;
  isOpenedByFilter = false;
  #reading = null;

  constructor(name) {
    this.name = name;
    this.note = make("span", { className: "note" });
    this.list = make("ul", { className: "services" });
    this.more = make("button", { className: "more", type: "button", onclick: () => this.#showMore() });
    this.details = make("details", {}, make("summary", {}, `${name} `, this.note), this.list, this.more);
    this.details.addEventListener("toggle", () => {
      this.show();
      if (this.details.open && !this.isOpenedByFilter) this.read();
      if (this.details.open) return;
      this.isOpenedByFilter = false;
      this.limit = CHUNK;
    });
  }

  /** Reads the records; callers during a read wait for the same one. */
  read() {
    this.#reading ??= this.#read().finally(() => (this.#reading = null));
    return this.#reading;
  }

  async #read() {
    if (!this.services) this.note.textContent = "reading";
    const records = new Map();
    try {
      await readLines(`api/records?${query({ namespace: this.name })}`, undefined, (record) => {
        const service = serviceOf(record.name, this.name);
        if (!records.has(service)) records.set(service, []);
        records.get(service).push(record);
      });
    } catch (error) {
      this.note.textContent = `cannot be read: ${error.message}`;
      return;
    }
    const before = this.services;
    this.services = new Map();
    for (const [name, ofName] of records) {
      const service = new Service(name, this.name, ofName);
      const old = before?.get(name);
      // With its element, which may be open or focused.
      this.services.set(name, old?.text === service.text ? old : service);
    }
    this.show();
  }

  found() {
    return [...(this.services?.values() ?? [])].filter((service) => service.text.includes(filter));
  }

  /** Shows the first Services that the filter lets through. */
  show() {
    const found = this.found();
    const total = this.services?.size ?? this.count;
    this.note.textContent = filter && this.services ? `${number(found.length)} of ${number(total)} Services` : plural(this.count, "Service");
    this.details.hidden = Boolean(filter && this.services) && found.length === 0;
    const rows = this.details.open ? found.slice(0, this.limit).map((service) => service.element()) : [];
    const isSame = rows.length === this.list.childElementCount && rows.every((row, at) => row === this.list.children[at]);
    const focused = document.activeElement;
    if (!isSame) this.list.replaceChildren(...rows);
    if (!isSame && this.list.contains(focused)) focused.focus({ preventScroll: true });
    const left = found.length - rows.length;
    this.more.hidden = !this.details.open || left === 0;
    this.more.textContent = `${number(left)} more: show ${number(Math.min(left, CHUNK))}`;
    const silent = this.count - total;
    if (this.details.open && !filter && silent > 0) this.note.textContent += `, ${number(silent)} without a record`;
  }

  #showMore() {
    const from = this.list.childElementCount;
    this.limit += CHUNK;
    this.show();
    this.list.children[from]?.querySelector("button").focus();
  }
}

/** Reads the namespaces from time to time, and those that are open. */
async function followNamespaces() {
  for (;;) {
    await watched();
    try {
      showNamespaces(await (await request("api/namespaces", AbortSignal.timeout(REQUEST_MS))).json());
      await rereadOpen();
    } catch (error) {
      announce("tree-note", `Namespaces cannot be read: ${error.message}`);
    }
    await sleep(NAMESPACES_MS);
  }
}

async function rereadOpen() {
  for (const namespace of namespaces.values()) {
    if (namespace.details.open && namespace.count <= REREAD) await namespace.read();
  }
}

function showNamespaces(list) {
  const names = new Set(list.map(({ name }) => name));
  for (const [name, namespace] of namespaces) {
    if (names.has(name)) continue;
    namespace.details.remove();
    namespaces.delete(name);
  }
  let after = null;
  for (const { name, services } of list) {
    const namespace = namespaces.get(name) ?? new Namespace(name);
    if (!namespaces.has(name)) {
      namespaces.set(name, namespace);
      if (after) after.after(namespace.details);
      else byId("namespaces").prepend(namespace.details);
    }
    if (namespace.count !== services) {
      namespace.count = services;
      namespace.show();
    }
    after = namespace.details;
  }
  if (!filter) announce("tree-note", list.length ? "" : "There is no namespace yet.");
}

/** Applies the filter to all namespaces: those that were never open are read first, one after another. */
async function applyFilter() {
  const text = byId("tree-filter").value.trim().toLowerCase();
  if (text === filter) return;
  filter = text;
  for (const namespace of namespaces.values()) {
    namespace.limit = CHUNK;
    namespace.show();
  }
  for (const namespace of filter ? namespaces.values() : []) {
    if (!namespace.services) {
      announce("tree-note", `Reading ${namespace.name}`);
      await namespace.read();
    }
    if (text !== filter) return;
  }
  const found = [...namespaces.values()].map((namespace) => [namespace, namespace.found().length]);
  const total = found.reduce((sum, [, count]) => sum + count, 0);
  // Few enough to be shown at once.
  for (const [namespace, count] of found) {
    const isOpened = Boolean(filter) && count > 0 && total <= CHUNK;
    if (isOpened && !namespace.details.open) namespace.isOpenedByFilter = namespace.details.open = true;
    else if (!isOpened && namespace.isOpenedByFilter) namespace.details.open = false;
    namespace.show();
  }
  announce("tree-note", filter ? `${plural(total, "Service")} found` : "");
}

// Queries as they are answered

const arrived = []; // not yet shown, oldest first
let isPaused = false;
let isDue = false; // whether `arrived` is going to be drawn
let stream = null; // aborts the stream in progress

/** Whether a query passes both filters; lines about the stream always do. */
function isShown(entry) {
  const [text, rcode] = [byId("live-text").value.trim().toLowerCase(), byId("live-rcode").value];
  return !entry.text || (entry.text.includes(text) && (!rcode || entry.rcode === rcode));
}

function arrive(entry) {
  if (!isShown(entry)) return;
  arrived.push(entry);
  if (arrived.length > ROWS) arrived.shift();
  if (isPaused) showPause();
  else if (!isDue) {
    isDue = true;
    setTimeout(drawArrived, DRAW_MS);
  }
}

/** Puts what has arrived on top, and drops what is beyond the bound from the bottom. */
function drawArrived() {
  isDue = false;
  if (isPaused) return;
  const list = byId("queries");
  // What has arrived before a filter was changed is hidden by it.
  const rows = arrived.splice(0).reverse().map((entry) => Object.assign(entry.make(), { entry, hidden: !isShown(entry) }));
  list.prepend(...rows);
  while (list.childElementCount > ROWS) list.lastElementChild.remove();
}

function queryRow({ time, client, protocol, name, type, rcode, reason, text, answer, took_us: took }) {
  const explained = () => explain({ name, type, client });
  const result = text ?? answer.join(", ");
  return make("li", { className: rcode },
    rcodeMark(rcode), " ", nameButton(name, explained), " ", make("span", { className: "meta" }, type),
    make("p", { className: text ? "reason" : "data" }, result || "no record"),
    make("p", { className: "meta" }, `${new Date(time).toLocaleTimeString("en-GB")} from ${client} by ${protocol}, ${shortTime(took / 1e6)}${text ? `, ${reason}` : ""}`));
}

function onTailLine(line) {
  if (line.missed !== undefined) {
    const text = `${plural(line.missed, "query").replace(/querys$/, "queries")} missed: more than this page could read`;
    arrive({ make: () => make("li", { className: "missed" }, text) });
    return;
  }
  const text = [line.name, line.type, line.client, line.rcode, line.reason, line.text, ...line.answer].join(" ").toLowerCase();
  arrive({ text, rcode: line.rcode, make: () => queryRow(line) });
}

/** Follows the server's stream. The rcode is left to the server, so that rare ones are not missed among many. */
async function followQueries() {
  let wasConnected = false;
  for (;;) {
    await watched();
    stream = new AbortController();
    const connected = () => {
      if (wasConnected) arrive({ make: () => make("li", { className: "missed" }, "Connected again: queries in between are not shown") });
      wasConnected = true;
      announce("live-note", "Connected.");
    };
    try {
      await readLines(`api/tail?${query({ rcode: byId("live-rcode").value })}`, stream.signal, onTailLine, connected);
    } catch (error) {
      if (!stream.signal.aborted) console.info("queries:", error);
    }
    if (stream.signal.aborted) {
      wasConnected = stream.signal.reason !== "filter" && wasConnected;
      continue;
    }
    announce("live-note", "The stream of queries ended. Connecting again.");
    await sleep(RETRY_MS);
  }
}

function filterQueries() {
  for (const row of byId("queries").children) row.hidden = !isShown(row.entry);
}

function showPause() {
  byId("live-pause").textContent = isPaused ? `Resume (${arrived.length}${arrived.length === ROWS ? " or more" : ""} new)` : "Pause";
}

// Explanations

let explanation = null; // aborts the one in progress

/** Fills in the form and explains. With a client, as from its address: plugins may depend on it. */
function explain({ name, type, client }) {
  const form = byId("explain-form").elements;
  form.name.value = name;
  if (![...form.type.options].some((option) => option.value === type)) form.type.append(make("option", {}, type));
  form.type.value = type;
  const namespace = form.from.value.split("/")[0].trim();
  form.from.value = client ? `${namespace || "default"}/${client}` : namespace;
  byId("explain").scrollIntoView({ block: "nearest" });
  showExplanation();
}

async function showExplanation() {
  explanation?.abort();
  explanation = new AbortController();
  const { signal } = explanation;
  const form = byId("explain-form").elements;
  const [name, type, from] = [form.name, form.type, form.from].map(({ value }) => value.trim());
  announce("verdict", `Asking for ${name}`);
  byId("explained").replaceChildren();
  try {
    const explained = await (await request(`api/explain?${query({ name, type, from: from || "default" })}`, signal)).json();
    announce("verdict", verdict(explained));
    byId("explained").replaceChildren(...explained.queries.map(explainedQuery));
  } catch (error) {
    if (!signal.aborted) announce("verdict", `Cannot be explained: ${error.message}`);
  }
}

function verdict({ name, type, answered, queries }) {
  const data = queries.at(-1).answer.map(recordData);
  if (answered) return `${name} ${type} has an answer, from query ${queries.length}: ${some(data, INLINE)}`;
  // Of the names of a search list, the one that is nearest to an existing name is the one that was meant.
  const reasons = queries.map(({ reason }) => reason?.text).filter(Boolean);
  const why = reasons.find((text) => text.includes("nearest")) ?? reasons[0];
  return `${name} ${type} has no answer` + (why ? `: ${why}` : "");
}

/** The data of a record in presentation format, without owner, TTL, class and type. */
const recordData = (record) => record.split(/\s+/).slice(4).join(" ") || record;

function explainedQuery({ name, rcode, answer, reason, object, took_us: took, steps: walk }) {
  const records = answer.map((record) => make("li", {}, record));
  const steps = (walk ?? []).map(({ at_us: at, depth, plugin, action }) =>
    make("li", {}, make("span", {}, "› ".repeat(depth) + shortTime(at / 1e6)), make("span", { className: "plugin" }, plugin), action));
  return make("li", {},
    make("h3", {}, name), rcodeMark(rcode), make("span", { className: "note" }, ` ${shortTime(took / 1e6)}`),
    ...(reason ? [make("p", { className: "reason" }, reason.text, make("span", { className: "note" }, ` (${reason.name})`))] : []),
    ...(object ? [make("p", { className: "note" }, `Object: ${object}`)] : []),
    make("ul", { className: "records" }, ...records),
    make("ol", { className: "steps", ariaLabel: "Steps" }, ...steps));
}

// In the background the page goes on for a while, as the window may only be covered, and then asks for nothing.

let hiddenSince = null;

/** Waits while the page has been in the background for long. */
function watched() {
  if (hiddenSince === null || performance.now() - hiddenSince < HIDDEN_MS) return undefined;
  stream?.abort("hidden");
  return new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}

document.addEventListener("visibilitychange", () => (hiddenSince = document.hidden ? performance.now() : null));
byId("tree-filter").addEventListener("input", applyFilter);
byId("explain-form").addEventListener("submit", (event) => {
  event.preventDefault();
  showExplanation();
});
byId("live-form").addEventListener("submit", (event) => event.preventDefault());
byId("live-text").addEventListener("input", filterQueries);
byId("live-rcode").addEventListener("change", () => {
  filterQueries();
  stream?.abort("filter");
});
byId("live-pause").addEventListener("click", () => {
  isPaused = !isPaused;
  showPause();
  drawArrived();
});
moveByArrows(byId("namespaces"));
moveByArrows(byId("queries"));
followStatus();
followNamespaces();
followQueries();
