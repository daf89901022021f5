// Colours for the canvases, read from the style sheet so that they are written once, for light and for dark.

const NAMES = ["surface", "text", "muted", "grid", "dim", "accent"];
const dark = window.matchMedia("(prefers-color-scheme: dark)");

export const theme = { trials: [], ramp: [] }; // ramp: [red, green, blue] of each stop
readColours();

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of NAMES) theme[name] = style.getPropertyValue(`--${name}`).trim();
  theme.trials = Array.from({ length: 8 }, (_, i) => style.getPropertyValue(`--trial-${i}`).trim());
  theme.ramp = Array.from({ length: 4 }, (_, i) => style.getPropertyValue(`--ramp-${i}`).trim().split(/\s+/).map(Number));
}

/** Call back after a change between light and dark, until `signal` aborts. */
export function onThemeChange(callback, signal) {
  const changed = () => {
    readColours();
    callback();
  };
  dark.addEventListener("change", changed, { signal });
}
