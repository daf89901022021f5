// A spec as a flat list of fields, and which of them differ. Pure functions.

/** Dotted path to value; lists and empty sections are values. */
export function flatten(section, prefix = "", into = new Map()) {
  for (const [name, value] of Object.entries(section ?? {})) {
    const isSection = value !== null && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length > 0;
    if (isSection) flatten(value, `${prefix}${name}.`, into);
    else into.set(prefix + name, value);
  }
  return into;
}

/** A value as it is written in a spec. */
export function written(value) {
  if (value === undefined) return "–";
  if (value === null) return "null";
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(6)));
  return typeof value === "object" ? JSON.stringify(value).replaceAll('"', "").replaceAll(",", ", ").replaceAll(":", ": ") : String(value);
}

/** The paths whose values are not the same in all, by the alphabet: [{path, values}]. */
export function differing(flats) {
  const paths = new Set(flats.flatMap((flat) => [...flat.keys()]));
  return [...paths]
    .sort()
    .map((path) => ({ path, values: flats.map((flat) => flat.get(path)) }))
    .filter(({ values }) => values.some((value) => JSON.stringify(value) !== JSON.stringify(values[0])));
}
