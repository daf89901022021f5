// Recorded shapes as SVG and as PDF. A PDF of one page with lines, areas and Helvetica is a few lines of text: no
// library is worth its weight for that.

import { channels } from "./recorder.js";

const short = (number) => String(Math.round(number * 100) / 100);

/** @returns the text of an SVG file */
export function toSvg(shapes, width, height, title) {
  const body = shapes.map((shape) => (shape.kind === "text" ? svgText(shape) : svgPath(shape)));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
    `<title>${escaped(title)}</title>`,
    ...clipPaths(shapes),
    ...body,
    "</svg>",
    "",
  ].join("\n");
}

/** What is drawn within a frame does not leave it. */
const clipId = (clip) => `c${clip.map(Math.round).join("-")}`;

function clipPaths(shapes) {
  const clips = new Map(shapes.filter(({ clip }) => clip).map(({ clip }) => [clipId(clip), clip]));
  return [...clips].map(
    ([id, [x, y, width, height]]) => `<clipPath id="${id}"><rect x="${short(x)}" y="${short(y)}" width="${short(width)}" height="${short(height)}"/></clipPath>`,
  );
}

function svgPath({ pieces, stroke, fill, width, dash, alpha, clip }) {
  const d = pieces.map((points) => points.map(([x, y], k) => `${k ? "L" : "M"}${short(x)} ${short(y)}`).join("")).join("");
  const [, , , own] = channels(stroke ?? fill);
  const opacity = short(alpha * own);
  const look = stroke
    ? `fill="none" stroke="${hex(stroke)}" stroke-width="${short(width)}" stroke-opacity="${opacity}" stroke-linejoin="round"${dash.length ? ` stroke-dasharray="${dash.join(" ")}"` : ""}`
    : `fill="${hex(fill)}" fill-opacity="${opacity}"`;
  return `<path d="${d}" ${look}${clip ? ` clip-path="url(#${clipId(clip)})"` : ""}/>`;
}

function svgText({ text, x, y, size, bold, align, fill }) {
  const anchor = { left: "start", center: "middle", right: "end" }[align] ?? "start";
  const weight = bold ? ' font-weight="600"' : "";
  return `<text x="${short(x)}" y="${short(y)}" font-family="Helvetica, Arial, sans-serif" font-size="${size}"${weight} text-anchor="${anchor}" fill="${hex(fill)}">${escaped(text)}</text>`;
}

const hex = (colour) => `#${channels(colour).slice(0, 3).map((c) => Math.round(c * 255).toString(16).padStart(2, "0")).join("")}`;
const escaped = (text) => text.replace(/[&<>"]/g, (mark) => `&#${mark.charCodeAt(0)};`);

/** @returns the text of a PDF file, all of it ASCII */
export function toPdf(shapes, width, height, title) {
  const alphas = new Map();
  const graphics = (alpha) => {
    const text = short(alpha);
    if (!alphas.has(text)) alphas.set(text, `G${alphas.size}`);
    return `/${alphas.get(text)} gs`;
  };
  const content = shapes.map((shape) => (shape.kind === "text" ? pdfText(shape, height) : pdfPath(shape, height, graphics))).join("\n");
  const states = [...alphas].map(([alpha, name]) => `/${name} << /CA ${alpha} /ca ${alpha} >>`).join(" ");
  const font = (name) => `<< /Type /Font /Subtype /Type1 /BaseFont /${name} /Encoding /WinAnsiEncoding >>`;
  const objects = [
    "<< /Type /Catalog /Pages 2 0 R >>",
    "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
    `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 ${width} ${height}] /Contents 4 0 R /Resources << /Font << /F0 ${font("Helvetica")} /F1 ${font("Helvetica-Bold")} >> /ExtGState << ${states} >> >> >>`,
    `<< /Length ${content.length} >>\nstream\n${content}\nendstream`,
    `<< /Title ${pdfString(title)} /Creator (AdaDim) >>`,
  ];
  let file = "%PDF-1.4\n";
  const places = objects.map((object, k) => {
    const place = file.length;
    file += `${k + 1} 0 obj\n${object}\nendobj\n`;
    return place;
  });
  const start = file.length;
  file += `xref\n0 ${objects.length + 1}\n0000000000 65535 f \n`;
  file += places.map((place) => `${String(place).padStart(10, "0")} 00000 n \n`).join("");
  return `${file}trailer\n<< /Size ${objects.length + 1} /Root 1 0 R /Info 5 0 R >>\nstartxref\n${start}\n%%EOF\n`;
}

function pdfPath({ pieces, stroke, fill, width, dash, alpha, clip }, height, graphics) {
  const colour = channels(stroke ?? fill);
  const path = pieces.map((points) => points.map(([x, y], k) => `${short(x)} ${short(height - y)} ${k ? "l" : "m"}`).join(" ")).join(" ");
  const look = stroke ? `${pdfColour(colour)} RG ${short(width)} w 1 j [${dash.join(" ")}] 0 d` : `${pdfColour(colour)} rg`;
  const drawn = `${graphics(alpha * colour[3])} ${look} ${path} ${stroke ? "S" : "f"}`;
  if (!clip) return drawn;
  const [x, y, wide, high] = clip;
  return `q ${[x, height - y - high, wide, high].map(short).join(" ")} re W n ${drawn} Q`;
}

function pdfText({ text, x, y, size, bold, align, fill }, height) {
  const width = text.length * size * 0.5;
  const left = x - ({ center: width / 2, right: width }[align] ?? 0);
  const font = `/${bold ? "F1" : "F0"} ${size} Tf`;
  return `${pdfColour(channels(fill))} rg BT ${font} ${short(left)} ${short(height - y)} Td ${pdfString(text)} Tj ET`;
}

const pdfColour = (colour) => colour.slice(0, 3).map(short).join(" ");

/** In the font's encoding; what it lacks becomes a question mark. */
function pdfString(text) {
  const plain = text.replaceAll("−", "-").replaceAll("–", "-").replaceAll("→", "->").replaceAll("↑", "").replaceAll("∞", "inf");
  const octal = (code) => `\\${code.toString(8).padStart(3, "0")}`;
  const written = [...plain].map((mark) => {
    const code = mark.codePointAt(0);
    if (/[()\\]/.test(mark) || (code > 126 && code < 256)) return octal(code);
    return code < 127 ? mark : "?";
  });
  return `(${written.join("")})`;
}
