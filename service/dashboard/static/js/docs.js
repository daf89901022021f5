// The API's documentation: Swagger UI over openapi.json, dark where the reader's system is.

const { url } = document.currentScript.dataset;
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function showScheme() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

showScheme();
dark.addEventListener("change", showScheme);
window.SwaggerUIBundle({
  url,
  dom_id: "#swagger-ui",
  deepLinking: true,
  showExtensions: true,
  showCommonExtensions: true,
  validatorUrl: null, // a third party's
});
