// Draws each chart when it comes near the screen, and all charts before the page is printed.
const drawn = new Map();

function draw(place) {
  if (!drawn.has(place)) {
    const spec = JSON.parse(document.getElementById(place.dataset.spec).textContent);
    const options = { renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } };
    drawn.set(place, vegaEmbed(place, spec, options).then(() => makeReachable(place)));
  }
  return drawn.get(place);
}

// Points of charts with few points are reached by keyboard; the focused point is announced below the chart.
function makeReachable(place) {
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

// A printed page must show everything.
window.addEventListener("beforeprint", () => {
  places.forEach(draw);
  document.querySelectorAll("details").forEach((part) => { part.open = true; });
});
