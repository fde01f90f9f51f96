"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const svg = "http://www.w3.org/2000/svg";
  const ink = { R: "var(--r)", G: "var(--g)", B: "var(--b)" };
  const field = document.getElementById("field");
  const rows = data.y.length, columns = data.x.length;
  const colours = Uint8Array.from({ length: 768 }, (_, k) => parseInt(data.colours.substr(2 * k, 2), 16));
  const decades = 4;
  let pinned = [columns >> 1, rows >> 1];
  const mark = document.getElementById("mark");
  let sheet = null;

  const make = (name, attributes, words) => {
    const node = document.createElementNS(svg, name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (words !== undefined) node.textContent = words;
    return node;
  };
  const told = (value, digits) => (value === null ? "–" : value.toFixed(digits));
  const colourOf = (channel) => ink[channel] || "currentColor";

  function drawPsf(canvas, c, i, j, logarithmic) {
    const size = data.size, picture = new ImageData(size, size);
    for (let row = 0; row < size; row++) {
      for (let column = 0; column < size; column++) {
        const at = ((c * rows + j) * size + row) * sheet.width + i * size + column;
        const light = (sheet.data[4 * at] / 255) ** 2;
        const share = logarithmic ? 1 + Math.log10(Math.max(light, 1e-9)) / decades : light;
        const level = Math.round(255 * Math.min(1, Math.max(0, share)));
        picture.data.set(colours.subarray(3 * level, 3 * level + 3), 4 * (row * size + column));
        picture.data[4 * (row * size + column) + 3] = 255;
      }
    }
    canvas.width = canvas.height = size;
    canvas.getContext("2d").putImageData(picture, 0, 0);
  }

  function showPsfs(i, j) {
    if (!sheet) return;
    data.channels.forEach((channel, c) => {
      drawPsf(document.getElementById("linear-" + channel), c, i, j, false);
      drawPsf(document.getElementById("logarithmic-" + channel), c, i, j, true);
    });
  }

  // axes of a small plot 480 x 190 in all, its frame from (46, 8) to (472, 158)
  const left = 46, right = 472, top = 8, foot = 158;

  function showCurves(i, j) {
    const plot = document.getElementById("curves");
    const x = (f) => left + f * (right - left), y = (m) => foot - m * (foot - top);
    const parts = [];
    for (const at of [0, 0.25, 0.5, 0.75, 1]) {
      parts.push(make("path", { d: `M${x(at)} ${top}V${foot}M${left} ${y(at)}H${right}`, stroke: "var(--grid)", fill: "none" }));
      parts.push(make("text", { x: x(at), y: foot + 14, "text-anchor": "middle" }, at));
      parts.push(make("text", { x: left - 5, y: y(at) + 4, "text-anchor": "end" }, at));
    }
    parts.push(make("text", { x: (left + right) / 2, y: foot + 29, "text-anchor": "middle" }, "frequency [cycles/px]; sagittal drawn through, tangential dashed"));
    parts.push(make("text", { transform: `translate(11 ${(top + foot) / 2}) rotate(-90)`, "text-anchor": "middle" }, "MTF"));
    data.channels.forEach((channel, c) => data.mtf[c][j][i].forEach((curve, k) => {
      const d = "M" + curve.map((m, n) => `${x(data.frequency[n]).toFixed(1)} ${y(Math.min(1, m / 1000)).toFixed(1)}`).join("L");
      parts.push(make("path", { d, fill: "none", stroke: colourOf(channel), "stroke-width": 1.7, "stroke-dasharray": k ? "6 4" : "none" }));
    }));
    plot.replaceChildren(...parts);
  }

  function showBars(i, j) {
    const plot = document.getElementById("bars"), z = data.zernike;
    if (!z) return;
    const largest = Math.max(1, ...z.nm.flat(3).map(Math.abs)), power = 10 ** Math.floor(Math.log10(largest));
    const longest = power * [1, 2, 4, 6, 10].find((step) => step * power >= largest);
    const y = (nm) => (top + foot) / 2 - (nm / longest) * (foot - top) / 2;
    const step = (right - left) / z.names.length, width = 0.8 * step / z.channels.length;
    const parts = [];
    for (const at of [-1, -0.5, 0, 0.5, 1]) {
      parts.push(make("path", { d: `M${left} ${y(at * longest)}H${right}`, stroke: at ? "var(--grid)" : "var(--faint)", fill: "none" }));
      parts.push(make("text", { x: left - 5, y: y(at * longest) + 4, "text-anchor": "end" }, at * longest));
    }
    parts.push(make("text", { transform: `translate(11 ${(top + foot) / 2}) rotate(-90)`, "text-anchor": "middle" }, "nm RMS"));
    z.names.forEach((name, t) => {
      const middle = left + (t + 0.5) * step;
      parts.push(make("text", { transform: `translate(${middle + 4} ${foot + 10}) rotate(-60)`, "text-anchor": "end" }, name));
      z.channels.forEach((channel, c) => {
        const nm = z.nm[c][j][i][t], error = z.stderr[c][j][i][t];
        const x = middle - 0.4 * step + c * width;
        parts.push(make("rect", { x, y: Math.min(y(0), y(nm)), width: 0.9 * width, height: Math.abs(y(nm) - y(0)), fill: colourOf(channel) }));
        if (error !== null) {
          parts.push(make("path", { d: `M${x + 0.45 * width} ${y(nm - error)}V${y(nm + error)}`, stroke: "currentColor", fill: "none" }));
        }
      });
    });
    plot.replaceChildren(...parts);
  }

  function figures(c, i, j) {
    const pair = (k) => `${told(data.mtf50[c][j][i][k], 3)} ± ${told(data.mtf50Std[c][j][i][k], 3)}`;
    const cells = [pair(0), pair(1), told(data.radius[c][j][i][0], 2), told(data.radius[c][j][i][1], 2)];
    if (data.zernike) cells.push(told(data.zernike.rms[c][j][i], 1), told(data.zernike.strehl[c][j][i], 3));
    return cells.concat(told(data.sigma[c][j][i], 4), data.observations[c][j][i], data.flags[c][j][i]);
  }

  function showFigures(i, j) {
    const columnsOf = data.channels.map((_, c) => figures(c, i, j));
    document.querySelectorAll("#figures tbody tr").forEach((row, k) =>
      row.querySelectorAll("td").forEach((cell, c) => { cell.textContent = columnsOf[c][k]; }));
  }

  function show(i, j, how) {
    document.getElementById("place").textContent = `tile at x ${data.x[i].toFixed(0)}, y ${data.y[j].toFixed(0)} px${how}`;
    const tile = field.querySelector(`[data-tile="${i},${j}"]`);
    for (const side of ["x", "y", "width", "height"]) mark.setAttribute(side, tile.getAttribute(side));
    showPsfs(i, j);
    showCurves(i, j);
    showBars(i, j);
    showFigures(i, j);
  }

  function pin(i, j) {
    pinned = [i, j];
    show(i, j, ", picked");
  }

  const tileOf = (event) => (event.target.dataset.tile || "").split(",").map(Number);
  field.addEventListener("pointerover", (event) => { if (event.target.dataset.tile) show(...tileOf(event), ""); });
  field.addEventListener("pointerleave", () => show(...pinned, ", picked"));
  field.addEventListener("click", (event) => { if (event.target.dataset.tile) pin(...tileOf(event)); });
  field.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    pin(Math.min(columns - 1, Math.max(0, pinned[0] + move[0])), Math.min(rows - 1, Math.max(0, pinned[1] + move[1])));
  });

  const image = new Image();
  image.onload = () => {
    const canvas = document.createElement("canvas");
    canvas.width = image.width;
    canvas.height = image.height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    sheet = context.getImageData(0, 0, image.width, image.height);
    showPsfs(...pinned);
  };
  image.src = "data:image/png;base64," + data.sheet;
  pin(...pinned);
})();
