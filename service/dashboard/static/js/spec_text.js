// Where one is in a spec's YAML text, block or flow style, finished or not: the path of keys, and what stands beside.
// A parser's tree is of no use for that, since what is being typed rarely parses. Pure functions.

const BLOCK_KEY = /^(\s*(?:-\s+)*)("[^"]*"|'[^']*'|[^\s#{}[\],"'][^#{}[\]:]*?)\s*:(?:\s+(.*))?$/;

/**
 * The place at a position: {path, key, siblings, from}.
 * path: keys from the top, "*" for an item of a list; key: whose value is typed here, null where a key is typed itself;
 * siblings: keys of the same mapping with their plain values; from: where the word begins that is typed.
 */
export function placeAt(text, position) {
  const flow = openFlow(text.slice(0, position));
  const lineStart = text.lastIndexOf("\n", position - 1) + 1;
  if (flow.stack.length) return placeInFlow(text, position, flow);
  const line = text.slice(lineStart, position);
  const [, before, , value] = BLOCK_KEY.exec(line) ?? [];
  if (value !== undefined || /:\s+$/.test(line)) {
    const key = keyOf(line);
    const { path, siblings } = blockAt(text, lineStart, before.length);
    return { path, key, siblings, from: position - (value ?? "").length };
  }
  const typed = /^(\s*(?:-\s+)*)(.*)$/.exec(line);
  const { path, siblings } = blockAt(text, lineStart, typed[1].length);
  return { path, key: null, siblings, from: position - typed[2].length };
}

/** Brackets that are open at the end of a text, outermost first, with the place where the first begins. */
function openFlow(text) {
  const stack = [];
  let start = 0;
  for (let i = 0; i < text.length; i += 1) {
    const c = text[i];
    const top = stack.at(-1);
    if (c === "#" && (i === 0 || /\s/.test(text[i - 1]))) {
      const end = text.indexOf("\n", i);
      i = end < 0 ? text.length : end;
    } else if ((c === '"' || c === "'") && (i === 0 || /[\s:,[{]/.test(text[i - 1]))) {
      const end = text.indexOf(c, i + 1);
      i = end < 0 ? text.length : end;
    } else if (c === "{" || c === "[") {
      if (!top && !/(^|[\s:-])$/.test(text.slice(Math.max(0, i - 1), i))) continue; // within a plain word
      if (!top) start = i;
      stack.push({ list: c === "[", key: null, siblings: {}, from: i + 1 });
    } else if (c === "}" || c === "]") stack.pop();
    else if (top && c === ",") {
      note(top, text.slice(top.from, i));
      Object.assign(top, { key: null, from: i + 1 });
    } else if (top && !top.list && c === ":" && top.key === null && /\s|^$/.test(text[i + 1] ?? "")) {
      top.key = unquoted(text.slice(top.from, i));
      top.from = i + 1;
    }
  }
  return { stack, start };
}

function note(mapping, value) {
  if (mapping.key !== null) mapping.siblings[mapping.key] = unquoted(value);
}

function placeInFlow(text, position, { stack, start }) {
  const lineStart = text.lastIndexOf("\n", start - 1) + 1;
  const opening = text.slice(lineStart, start);
  const [, before] = /^(\s*(?:-\s+)*)/.exec(opening);
  const { path } = blockAt(text, lineStart, before.length);
  const key = keyOf(opening);
  if (key !== null) path.push(key);
  stack.forEach((open, depth) => {
    const last = depth === stack.length - 1;
    if (open.list) path.push("*");
    else if (!last && open.key !== null) path.push(open.key);
  });
  const top = stack.at(-1);
  const typed = text.slice(top.from, position);
  const from = position - typed.trimStart().length;
  if (top.list) return { path: path.slice(0, -1), key: "*", siblings: {}, from };
  const after = Object.fromEntries([...text.slice(position).split("}")[0].matchAll(/([\w.]+):\s*([\w.-]+)/g)].map(([, name, value]) => [name, value]));
  return { path, key: top.key, siblings: { ...after, ...top.siblings }, from };
}

/** The path of the block mapping that has a key in this column of the line that starts here, and the keys beside it. */
function blockAt(text, lineStart, column) {
  const path = [];
  const siblings = {};
  let limit = column;
  let own = true; // lines still belong to the same mapping
  let afterDash = false;
  const current = /^(\s*(?:-\s+)*)/.exec(text.slice(lineStart).split("\n", 1)[0])[1];
  for (const dash of dashes(current.slice(0, column)).reverse()) {
    path.unshift("*");
    limit = dash;
    own = false;
    afterDash = true;
  }
  for (const line of text.slice(0, lineStart).split("\n").reverse()) {
    const found = BLOCK_KEY.exec(line);
    if (!found) continue;
    const [, before, key, value] = found;
    const at = before.length;
    if (own && at === limit) siblings[unquoted(key)] = unquoted(value ?? "");
    else if (at < limit || (afterDash && at === limit && !before.includes("-"))) {
      path.unshift(unquoted(key));
      limit = at;
      own = afterDash = false;
    } else continue;
    for (const dash of dashes(before).reverse()) {
      if (dash >= limit) continue;
      path.unshift("*");
      limit = dash;
      own = false;
      afterDash = true;
    }
  }
  for (const line of text.slice(lineStart).split("\n").slice(1)) {
    const found = BLOCK_KEY.exec(line);
    if (!found) continue;
    if (found[1].length < column || (found[1].length === column && found[1].includes("-"))) break;
    if (found[1].length === column) siblings[unquoted(found[2])] = unquoted(found[3] ?? "");
  }
  return { path, siblings };
}

const dashes = (before) => [...before.matchAll(/-/g)].map((match) => match.index);
const unquoted = (text) => text.trim().replace(/^(["'])(.*)\1$/, "$2");

function keyOf(line) {
  const found = /^\s*(?:-\s+)*("[^"]*"|'[^']*'|[^\s#{}[\],"'][^#{}[\]:]*?)\s*:(?:\s|$)/.exec(line);
  return found ? unquoted(found[1]) : null;
}

/** From where to where the value at a JSON pointer stands, by the tree of a text that parses; of a missing one its parent. */
export function rangeOf(tree, text, pointer) {
  const steps = pointer.split(/\//).slice(1).map((step) => step.replaceAll("~1", "\u002f").replaceAll("~0", "~"));
  let node = tree.topNode.getChild("Document");
  let found = firstLine(text);
  for (const step of steps) {
    const next = childOf(node, text, step);
    if (!next) break;
    ({ value: node, range: found } = next);
  }
  return found;
}

function childOf(node, text, step) {
  const container = node && (mappingOf(node) ?? node);
  if (!container) return null;
  if (/Mapping/.test(container.name)) {
    for (const pair of container.getChildren("Pair")) {
      const key = pair.getChild("Key");
      if (key && unquoted(text.slice(key.from, key.to)) === step) return { value: pair, range: { from: key.from, to: key.to } };
    }
  } else if (/Sequence/.test(container.name)) {
    const item = container.getChildren("Item")[Number(step)];
    if (item) return { value: item, range: { from: item.from, to: Math.min(item.to, lineEnd(text, item.from)) } };
  }
  return null;
}

/** The mapping or list in a document, a pair or an item. */
function mappingOf(node) {
  for (const name of ["BlockMapping", "FlowMapping", "BlockSequence", "FlowSequence"]) {
    const child = node.getChild(name);
    if (child) return child;
  }
  return null;
}

const firstLine = (text) => ({ from: 0, to: lineEnd(text, 0) });

function lineEnd(text, from) {
  const end = text.indexOf("\n", from);
  return end < 0 ? text.length : end;
}
