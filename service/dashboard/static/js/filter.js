// Filter texts such as `weighting=adaptive lr>0.002 seed=0,1`: terms that must all hold, words that must all occur.
// Owns the notation and the comparison; who filters says which fields there are and what their values are.

const TERM = /([\p{L}\p{N}_.@-]+)(<=|>=|!=|=|<|>)("[^"]*"|[^\s"]*)|"([^"]*)"|(\S+)/gu;
const COMPARE = {
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
};

/**
 * Read a text. A term has a field, an operator and values (one of them must fit); a word has only a text.
 * @param knows(field) -> whether there is such a field
 * @returns {terms, problem}: the terms that can be used, and what is wrong with the others in words
 */
export function parseFilter(text, knows) {
  const terms = [];
  const problems = [];
  for (const [, field, operator, value, quoted, word] of text.matchAll(TERM)) {
    if (field === undefined) terms.push({ word: (quoted ?? word).toLowerCase() });
    else if (!knows(field)) problems.push(`there is no field “${field}”`);
    else if (value === "" || value === '""') problems.push(`${field}${operator} needs a value`);
    else {
      const values = value.startsWith('"') ? [value.slice(1, -1)] : value.split(",").filter(Boolean);
      if (operator in COMPARE && !values.every(isNumber)) problems.push(`${field}${operator} needs a number`);
      else terms.push({ field, operator, values });
    }
  }
  return { terms, problem: problems.join("; ") };
}

/**
 * Whether everything holds.
 * @param item {value(field) -> a value, a list of values of which one must fit, or undefined; text -> what words are looked for in}
 */
export function matches(terms, item) {
  return terms.every((term) => {
    if (term.word !== undefined) return item.text.toLowerCase().includes(term.word);
    const found = item.value(term.field);
    const all = Array.isArray(found) ? found : [found];
    return term.operator === "!=" ? all.some((value) => value !== undefined && !fits(term, value)) : all.some((value) => fits(term, value));
  });
}

function fits({ operator, values }, value) {
  if (value === undefined || value === null) return false;
  if (operator in COMPARE) return COMPARE[operator](Number(value), Number(values[0]));
  return values.some((wanted) =>
    isNumber(wanted) && isNumber(value) ? Number(value) === Number(wanted) : String(value).toLowerCase() === wanted.toLowerCase(),
  );
}

/** The text with all terms of a field replaced by others, as brushing an axis does. */
export function withTerms(text, field, terms) {
  const others = [...text.matchAll(TERM)].filter((match) => match[1] !== field).map(([whole]) => whole);
  return [...others, ...terms].join(" ");
}

/** A value as a term takes it. */
export const termValue = (value) => (/[\s",]/.test(String(value)) ? `"${String(value).replaceAll('"', "")}"` : String(value));

const isNumber = (text) => text !== "" && text !== null && typeof text !== "boolean" && Number.isFinite(Number(text));
