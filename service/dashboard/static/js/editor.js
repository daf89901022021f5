// The editor of a spec: CodeMirror with completion and explanations from the JSON Schema, and problems where they are.

import {
  EditorState, EditorView, HighlightStyle, autocompletion, bracketMatching, completionKeymap, defaultKeymap, drawSelection,
  ensureSyntaxTree, highlightActiveLine, history, historyKeymap, hoverTooltip, indentUnit, indentWithTab, keymap,
  lineNumbers, lintGutter, setDiagnostics, syntaxHighlighting, tags, yaml,
} from "../vendor/codemirror/codemirror.min.js";
import { el } from "./dom.js";
import { keysAt, meaningOf, valuesAt } from "./spec_schema.js";
import { placeAt, rangeOf } from "./spec_text.js";

const PARSE_MS = 200;

const colours = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--accent)" },
  { tag: [tags.string, tags.content], color: "var(--text)" },
  { tag: tags.comment, color: "var(--muted)", fontStyle: "italic" },
  { tag: [tags.separator, tags.squareBracket, tags.brace, tags.punctuation], color: "var(--muted)" },
]);

const looks = EditorView.theme({
  "&": { color: "var(--text)", backgroundColor: "var(--surface)", fontSize: "13px" },
  "&.cm-focused": { outline: "none" },
  ".cm-content": { caretColor: "var(--text)", fontFamily: "var(--mono)", padding: "10px 0" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  ".cm-scroller": { minHeight: "320px" },
  ".cm-gutters": { minHeight: "320px", backgroundColor: "var(--sunken)", color: "var(--muted)", border: "none" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "color-mix(in srgb, var(--accent) 7%, transparent)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    backgroundColor: "color-mix(in srgb, var(--accent) 25%, transparent)",
  },
  ".cm-tooltip": { backgroundColor: "var(--surface)", color: "var(--text)", border: "1px solid var(--border-strong)", borderRadius: "6px" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--accent)", color: "var(--on-accent)" },
  ".cm-completionDetail": { color: "var(--muted)", fontStyle: "normal" },
  "li[aria-selected] .cm-completionDetail": { color: "inherit" },
  ".cm-completionInfo, .spec-meaning": { maxWidth: "46ch", padding: "6px 9px", fontSize: "12.5px" },
  ".cm-diagnostic-error": { borderLeftColor: "var(--bad)" },
});

export class SpecEditor {
  /** @param schema the spec's JSON Schema, @param onChange(text), @param onSubmit() by Ctrl-Enter */
  constructor({ schema, onChange, onSubmit }) {
    this.view = new EditorView({
      state: EditorState.create({
        doc: "",
        extensions: [
          keymap.of([{ key: "Mod-Enter", run: () => (onSubmit(), true) }]),
          lineNumbers(),
          lintGutter(),
          history(),
          drawSelection(),
          bracketMatching(),
          highlightActiveLine(),
          indentUnit.of("  "),
          yaml(),
          syntaxHighlighting(colours),
          autocompletion({ override: [(context) => complete(context, schema)] }),
          hoverTooltip((view, position) => explain(view.state, position, schema)),
          // Escape, then Tab leaves the editor: Tab alone would be a trap for the keyboard without that.
          keymap.of([...completionKeymap, ...defaultKeymap, ...historyKeymap, indentWithTab]),
          EditorView.updateListener.of((update) => update.docChanged && onChange(this.text)),
          EditorView.contentAttributes.of({ tabindex: "0", "aria-label": "Spec, in YAML", "aria-describedby": "editor-help" }),
          looks,
        ],
      }),
    });
    this.node = this.view.dom;
  }

  get text() {
    return this.view.state.doc.toString();
  }

  set text(text) {
    this.view.dispatch({ changes: { from: 0, to: this.view.state.doc.length, insert: text } });
  }

  /** Mark what is wrong. @param problems [{pointer, detail}] as the service tells them */
  showProblems(problems) {
    const { state } = this.view;
    const tree = ensureSyntaxTree(state, state.doc.length, PARSE_MS);
    const found = problems.map(({ pointer, detail }) => ({ ...(placeIn(state, detail) ?? rangeOf(tree, this.text, pointer ?? "")), severity: "error", message: detail }));
    this.view.dispatch(setDiagnostics(state, found));
  }

  /** Go to where something is wrong. */
  goTo({ pointer, detail }) {
    const { state } = this.view;
    const tree = ensureSyntaxTree(state, state.doc.length, PARSE_MS);
    const { from } = placeIn(state, detail) ?? rangeOf(tree, this.text, pointer ?? "");
    this.view.dispatch({ selection: { anchor: from }, scrollIntoView: true });
    this.view.focus();
  }

  focus() {
    this.view.focus();
  }

  dispose() {
    this.view.destroy();
  }
}

/** The place that the words "line 3, column 5" name: of a text that does not parse there is no other. */
function placeIn(state, detail) {
  const [, line, column] = /line (\d+), column (\d+)/.exec(detail ?? "") ?? [];
  if (!line || Number(line) > state.doc.lines) return null;
  const found = state.doc.line(Number(line));
  return { from: Math.min(found.from + Number(column) - 1, found.to), to: found.to };
}

function complete(context, schema) {
  const text = context.state.doc.toString();
  const { path, key, siblings, from } = placeAt(text, context.pos);
  if (!context.explicit && from === context.pos && !/[\s{[,]$/.test(text.slice(0, from))) return null;
  if (!context.explicit && from === context.pos && key === null) return null; // an empty line: only when asked
  const options = key === null ? keysAt(path, siblings, schema).map(keyOption) : valuesAt(path, key, siblings, schema).map(({ text: label, description }) => ({ label, info: description || undefined, type: "constant" }));
  return options.length ? { from, options, validFor: /^[\w.{}: -]*$/ } : null;
}

function keyOption({ name, description, type, section }) {
  return { label: name, apply: section ? `${name}:` : `${name}: `, detail: section ? "" : type.length > 32 ? "" : type, info: description || undefined, type: "property" };
}

/** What the key under the pointer means. */
function explain(state, position, schema) {
  const line = state.doc.lineAt(position);
  const word = [...line.text.matchAll(/[\w.]+(?=\s*:)/g)].find((match) => line.from + match.index <= position && position <= line.from + match.index + match[0].length);
  if (!word) return null;
  const from = line.from + word.index;
  const { path, key } = placeAt(state.doc.toString(), from);
  const meaning = key === null ? meaningOf(path, word[0], schema) : null;
  if (!meaning) return null;
  const create = () => ({
    dom: el("div", { class: "spec-meaning" }, el("strong", {}, word[0]), meaning.facts ? ` ${meaning.facts}` : "", meaning.description ? el("div", {}, meaning.description) : null),
  });
  return { pos: from, end: from + word[0].length, above: true, create };
}
