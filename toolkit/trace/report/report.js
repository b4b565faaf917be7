// Shows values under the pointer and copies tables. The page is complete without it; texts are only ever set as text.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("hover").textContent);
  const format = (value, unit) => {
    if (value === null) return "–";
    if (unit === "bytes") return value >= 1e9 ? (value / 1e9).toFixed(2) + " GB" : value >= 1e5 ? (value / 1e6).toFixed(1) + " MB" : (value / 1e3).toFixed(0) + " kB";
    if (unit === "seconds") return value >= 1 ? value.toFixed(2) + " s" : (value * 1e3).toFixed(1) + " ms";
    return value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(2) : Number(value.toPrecision(5)).toLocaleString("en");
  };
  const make = (name, parent, text) => {
    const element = parent.appendChild(document.createElement(name));
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const nearest = (x, at) => {
    let low = 0, high = x.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (x[middle] < at) low = middle; else high = middle;
    }
    return at - x[low] <= x[high] - at ? low : high;
  };
  for (const plot of document.querySelectorAll("[data-chart]")) {
    const chart = data[plot.dataset.chart];
    if (!chart || !chart.x.length) continue;
    let cross, tip;
    const hide = () => { cross?.remove(); tip?.remove(); cross = tip = undefined; };
    const show = (event) => {
      const box = plot.getBoundingClientRect();
      const i = nearest(chart.x, (100 * (event.clientX - box.left)) / box.width);
      hide();
      cross = make("div", plot);
      cross.className = "cross";
      cross.style.left = chart.x[i] + "%";
      tip = make("div", plot);
      tip.className = "tip";
      make("p", tip, chart.label[i]);
      const table = make("table", tip);
      for (const series of chart.series) {
        if (series.values[i] === 0 && chart.series.length > 3) continue;
        const row = make("tr", table), name = make("td", row), swatch = make("i", name);
        swatch.className = "swatch";
        swatch.style.background = `var(--${series.color})`;
        name.append(series.label);
        make("td", row, format(series.values[i], series.unit));
      }
      const left = (chart.x[i] / 100) * box.width;
      const room = left + 12 + tip.offsetWidth <= box.width;
      tip.style.left = (room ? left + 12 : Math.max(left - 12 - tip.offsetWidth, -48)) + "px";
    };
    plot.addEventListener("pointermove", show);
    plot.addEventListener("pointerdown", show);
    plot.addEventListener("pointerleave", hide);
  }
  // Rows of tab-separated cells, as spreadsheets take them. A page opened from a file may not have
  // the clipboard; then the table is selected and copied the old way.
  const copy = async (table) => {
    const rows = [...table.rows].map((row) => [...row.cells].map((cell) => cell.innerText.trim()).join("\t"));
    try {
      await navigator.clipboard.writeText(rows.join("\n") + "\n");
      return true;
    } catch {
      const selection = getSelection();
      selection.removeAllRanges();
      selection.selectAllChildren(table);
      const done = document.execCommand("copy");
      if (done) selection.removeAllRanges();
      return done;
    }
  };
  for (const table of document.querySelectorAll("table.data")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy table";
    button.addEventListener("click", async () => {
      button.textContent = (await copy(table)) ? "Copied" : "Selected: press Ctrl+C";
      setTimeout(() => { button.textContent = "Copy table"; }, 2000);
    });
    table.after(button);
  }
})();
