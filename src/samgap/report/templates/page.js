// Draws each chart when it comes near the screen, and all of them before the page is printed.
const drawn = new Map();

function draw(place) {
  if (!drawn.has(place)) {
    const spec = JSON.parse(document.getElementById(place.dataset.spec).textContent);
    const options = { renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } };
    drawn.set(place, vegaEmbed(place, spec, options).then(() => reachable(place)));
  }
  return drawn.get(place);
}

// The points of a chart of few of them can be walked through by keyboard; what is at hand is said below the chart.
function reachable(place) {
  const points = [...place.querySelectorAll('.role-mark [role="graphics-symbol"][aria-label]')];
  const announced = place.closest("figure").querySelector(".announced");
  for (const point of points.length > 80 ? [] : points) {
    point.setAttribute("tabindex", "0");
    point.addEventListener("focus", () => { announced.textContent = point.getAttribute("aria-label"); });
    point.addEventListener("blur", () => { announced.textContent = ""; });
  }
}

const places = [...document.querySelectorAll(".chart")];
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) draw(entry.target);
}, { rootMargin: "600px" });
places.forEach((place) => seen.observe(place));

// Paper cannot be clicked.
window.addEventListener("beforeprint", () => {
  places.forEach(draw);
  document.querySelectorAll("details").forEach((part) => { part.open = true; });
});
