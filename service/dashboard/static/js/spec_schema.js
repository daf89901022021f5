// What may stand at a place of a spec, by its JSON Schema: keys, values, and what they mean. Pure functions.

const SEARCHABLE = ["data", "model", "objective", "training", "evaluation"];

/** Every object or value schema that a schema stands for. */
function alternatives(schema, root) {
  if (!schema) return [];
  if (schema.$ref) return alternatives(root.$defs[schema.$ref.replace(/^.*\//, "")], root).map((found) => ({ ...found, ...described(schema) }));
  const several = schema.anyOf ?? schema.oneOf;
  if (!several) return [schema];
  return several.flatMap((one) => alternatives(one, root).map((found) => ({ description: schema.description, ...found })));
}

const described = ({ description, default: value }) => ({ ...(description && { description }), ...(value !== undefined && { default: value }) });

/** The schemas at a path. Below search.space a dotted path has the schema of its field, in choices and points too. */
export function schemasAt(path, root) {
  const [first, second, third, fourth] = path;
  if (first === "search" && second === "space" && path.length > 3 && fourth === "choice") return schemasAt([...third.split("."), ...path.slice(5)], root);
  if (first === "search" && second === "points" && path.length > 3) return schemasAt([...fourth.split("."), ...path.slice(4)], root);
  let found = alternatives(root, root);
  for (const step of path) {
    found = found.flatMap((schema) => {
      if (step === "*") return alternatives(schema.items, root);
      const named = schema.properties?.[step] ?? (typeof schema.additionalProperties === "object" ? schema.additionalProperties : null);
      return alternatives(named, root);
    });
  }
  return found;
}

/** The kinds that agree with what stands beside: `policy: fixed` leaves one of four. */
function agreeing(schemas, siblings) {
  const fits = ({ properties = {} }) => Object.entries(properties).every(([name, { const: fixed }]) => fixed === undefined || siblings[name] === undefined || siblings[name] === String(fixed));
  const kept = schemas.filter(fits);
  return kept.length ? kept : schemas;
}

/** Keys that may be written in a mapping: [{name, description, type}]. */
export function keysAt(path, siblings, root) {
  if (path.length === 2 && path[0] === "search" && path[1] === "space") return searchPaths(root).filter(({ name }) => !(name in siblings));
  const found = new Map();
  for (const { properties = {} } of agreeing(schemasAt(path, root), siblings)) {
    for (const [name, schema] of Object.entries(properties)) {
      if (name in siblings || found.has(name) || schema.readOnly) continue;
      const kinds = alternatives(schema, root);
      found.set(name, { name, description: schema.description ?? kinds[0]?.description ?? "", type: typeWord(kinds), section: kinds.every(({ type }) => type === "object") });
    }
  }
  return [...found.values()];
}

/** Values a key may have: [{text, description}]. */
export function valuesAt(path, key, siblings, root) {
  const found = new Map();
  const add = (value, description) => {
    const text = value === null ? "null" : typeof value === "object" ? null : String(value);
    if (text !== null && text !== "" && !found.has(text)) found.set(text, { text, description });
  };
  const schemas = key === "*" ? schemasAt([...path, "*"], root) : agreeing(schemasAt(path, root), key in siblings ? without(siblings, key) : siblings).flatMap(({ properties, additionalProperties }) => alternatives(properties?.[key] ?? (typeof additionalProperties === "object" ? additionalProperties : null), root));
  const below = schemas.length ? schemas : schemasAt([...path, key], root);
  for (const schema of below) {
    for (const value of schema.enum ?? (schema.const !== undefined ? [schema.const] : schema.type === "boolean" ? [true, false] : schema.type === "null" ? [null] : [])) add(value, schema.description ?? "");
    if (schema.default !== undefined) add(schema.default, "the default");
    for (const [name, property] of Object.entries(schema.properties ?? {})) if (property.const !== undefined) found.set(`{${name}: ${property.const}}`, { text: `{${name}: ${property.const}}`, description: schema.description ?? "" });
    if (schema.type === "object" && schema.required?.length === 1) found.set(`{${schema.required[0]}: }`, { text: `{${schema.required[0]}: `, description: schema.description ?? "" });
  }
  return [...found.values()];
}

const without = (values, key) => Object.fromEntries(Object.entries(values).filter(([name]) => name !== key));

/** What a key means: its type, default, bounds and description; null for one that is not known. */
export function meaningOf(path, key, root) {
  const known = schemasAt([...path, key], root);
  if (!known.length) return null;
  const { description, default: value } = known[0];
  const facts = [typeWord(known)];
  const bounds = boundsOf(known);
  if (bounds) facts.push(bounds);
  if (value !== undefined && typeof value !== "object") facts.push(`default ${value}`);
  return { description: description ?? "", facts: facts.join(", ") };
}

function typeWord(kinds) {
  const words = kinds.map((kind) => (kind.enum ? kind.enum.join(" | ") : kind.const !== undefined ? String(kind.const) : kind.type === "object" ? "section" : kind.type));
  return [...new Set(words.filter(Boolean))].join(" | ");
}

function boundsOf(kinds) {
  const { minimum, exclusiveMinimum, maximum, exclusiveMaximum } = kinds.find((kind) => kind.type === "integer" || kind.type === "number") ?? {};
  const low = minimum !== undefined ? `at least ${minimum}` : exclusiveMinimum !== undefined ? `above ${exclusiveMinimum}` : null;
  const high = maximum !== undefined ? `at most ${maximum}` : exclusiveMaximum !== undefined ? `below ${exclusiveMaximum}` : null;
  return [low, high].filter(Boolean).join(", ");
}

/** Every dotted path that a search may vary. */
function searchPaths(root) {
  const found = new Map();
  const visit = (path) => {
    for (const { properties = {} } of schemasAt(path, root)) {
      for (const name of Object.keys(properties)) {
        const inner = [...path, name];
        const dotted = inner.join(".");
        if (found.has(dotted)) continue;
        const kinds = schemasAt(inner, root);
        found.set(dotted, { name: dotted, description: kinds[0]?.description ?? "", type: typeWord(kinds), section: true });
        visit(inner);
      }
    }
  };
  for (const section of SEARCHABLE) visit([section]);
  return [...found.values()];
}
