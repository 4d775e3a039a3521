// Starts the OpenAPI viewer on this server's own document, follows the visitor's colour scheme,
// and mends what the viewer leaves out for people who use a screen reader.
const place = document.getElementById("viewer");
const dark = matchMedia("(prefers-color-scheme: dark)");

function followColorScheme() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

function mend() {
  // The viewer has a <main>, but its title, its keys, and its filter stand outside any landmark.
  landmark(".information-container", "region", "About this API");
  landmark(".scheme-container", "region", "Authorization");
  landmark(".filter-container", "search", "Operations");
  // Below the title its headings start at level 3.
  each("section.models > h4", (element) => element.setAttribute("aria-level", "2"));
  each(":is(h3, h4, h5):not([aria-level])", (element) => {
    element.setAttribute("aria-level", String(Number(element.tagName[1]) - 1));
  });
  // A link inside the button that opens an operation: the button sets the address by itself.
  each(".opblock-summary-control a[href]", (element) => element.removeAttribute("href"));
  // A table that calls itself a region is no table any more, and every one has the same name.
  each("table[role=region]", (element) => element.removeAttribute("role"));
  label(".body-param textarea", "Request body");
  label(".close-modal", "Close");
}

function landmark(selector, role, name) {
  each(`${selector}:not([role])`, (element) => element.setAttribute("role", role));
  label(selector, name);
}

function label(selector, name) {
  each(`${selector}:not([aria-label])`, (element) => element.setAttribute("aria-label", name));
}

function each(selector, change) {
  for (const element of place.querySelectorAll(selector)) change(element);
}

let due = 0;
new MutationObserver(() => {
  cancelAnimationFrame(due);
  due = requestAnimationFrame(mend);
}).observe(place, { childList: true, subtree: true });

dark.addEventListener("change", followColorScheme);
followColorScheme();

window.SwaggerUIBundle({
  domNode: place,
  url: place.dataset.openapi,
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  filter: true,
  tryItOutEnabled: true,
  // A key must not outlive the page: nothing is kept in the browser's storage.
  persistAuthorization: false,
  // The default asks a validator on another host.
  validatorUrl: null,
});
