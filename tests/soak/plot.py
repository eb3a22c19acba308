# SPDX-License-Identifier: Apache-2.0
"""Plots as SVG, written by hand: panels below each other over one axis of time, faults as marks through all."""
import math
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, TOP, GAP = 1100, 70, 170, 34, 34
COLORS = ("#1f77b4", "#ff7f0e", "#d62728", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22", "#555",
          "#000", "#aec7e8", "#98df8a", "#c49c94", "#f7b6d2", "#dbdb8d")


def nice(top):
    """A round number not below @top."""
    if top <= 0:
        return 1
    unit = 10 ** math.floor(math.log10(top))
    return next(k * unit for k in (1, 2, 5, 10) if k * unit >= top)


class Plot:
    def __init__(self, title, seconds):
        self.seconds, self.y, self.parts, self.panels = seconds, TOP, [], []
        self.text(LEFT, 20, title, size=15)

    def text(self, x, y, what, size=11, anchor="start", color="#222"):
        self.parts.append('<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s" fill="%s">%s</text>' % (
            x, y, size, anchor, color, escape(what)))

    def x(self, t):
        return LEFT + min(max(t, 0), self.seconds) / self.seconds * (WIDTH - LEFT - RIGHT)

    def panel(self, title, height, series, log=None, unit=""):
        """@series: {name: [(t, value or None)]}; @log: (lowest, highest) of a logarithmic axis. Lines break at None."""
        top, bottom = self.y + 22, self.y + 22 + height
        self.text(LEFT, self.y + 15, title, size=12)
        values = [v for line in series.values() for _, v in line if v is not None]
        if log:
            low, high = (math.log10(v) for v in log)
            ticks = [10 ** k for k in range(math.ceil(low), math.floor(high) + 1)]
        else:
            low, high = 0, nice(max(values, default=1))
            ticks = [high * k / 4 for k in range(5)]

        def at(v):
            v = math.log10(max(v, 1e-9)) if log else v
            return bottom - (min(max(v, low), high) - low) / (high - low) * height
        for tick in ticks:
            self.parts.append('<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>' % (
                LEFT, WIDTH - RIGHT, at(tick), at(tick)))
            self.text(LEFT - 6, at(tick) + 4, ("%g" % tick) + unit, anchor="end")
        for i, (name, line) in enumerate(series.items()):
            color = COLORS[i % len(COLORS)]
            d, pen = [], "M"
            for t, v in line:
                if v is None:
                    pen = "M"
                    continue
                d.append("%s%.1f,%.1f" % (pen, self.x(t), at(v)))
                pen = "L"
            self.parts.append('<path d="%s" fill="none" stroke="%s" stroke-width="1.5" stroke-linecap="round"/>' % (
                " ".join(d), color))
            self.text(WIDTH - RIGHT + 12, top + 10 + i * 14, name, color=color)
        self.panels.append((top, bottom))
        self.y = max(bottom, top + 14 * len(series)) + GAP - 12

    def bars(self, title, height, width, good, bad, names):
        """Stacked: @good and @bad [(t, n)] in buckets of @width seconds."""
        top, bottom = self.y + 22, self.y + 22 + height
        self.text(LEFT, self.y + 15, title, size=12)
        high = nice(max([g[1] + b[1] for g, b in zip(good, bad)], default=1))
        for tick in (0, high / 2, high):
            y = bottom - tick / high * height
            self.parts.append('<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>' % (LEFT, WIDTH - RIGHT, y, y))
            self.text(LEFT - 6, y + 4, "%g" % tick, anchor="end")
        for (t, g), (_, b) in zip(good, bad):
            x, w, y = self.x(t), self.x(t + width) - self.x(t), bottom
            for n, color in ((g, "#9ecae1"), (b, "#d62728")):
                h = n / high * height
                y -= h
                if n:
                    self.parts.append('<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>' % (
                        x, y, max(w - 0.5, 0.5), h, color))
        for i, (name, color) in enumerate(zip(names, ("#3182bd", "#d62728"))):
            self.text(WIDTH - RIGHT + 12, top + 10 + i * 14, name, color=color)
        self.panels.append((top, bottom))
        self.y = bottom + GAP - 12

    def faults(self, log):
        """A band for each, through all panels, its letter above the first; letters that would touch step down."""
        top, bottom = self.panels[0][0], self.panels[-1][1]
        marks, last = [], [-99.0] * 3
        for f in log:
            x, w = self.x(f["at"]), max(self.x(f["to"]) - self.x(f["at"]), 1.2)
            marks.append('<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="#f4a" fill-opacity="0.16"><title>%s</title>'
                         '</rect>' % (x, top, w, bottom - top, escape("%.0f s, %s: %s" % (f["at"], f["kind"], f["what"]))))
            row = next((r for r in range(3) if x - last[r] > 9), 0)
            last[row] = x
            marks.append('<text x="%.1f" y="%d" font-size="11" fill="#a03">%s</text>' % (x, top + 10 + row * 11, f["letter"]))
        self.parts[0:0] = marks

    def axis(self):
        bottom = self.panels[-1][1]
        step = next((s for s in (10, 20, 30, 60, 120, 300, 600) if self.seconds / s <= 16), 1200)
        self.text(LEFT - 30, bottom + 16, "min:s", anchor="end")
        for t in range(0, int(self.seconds) + 1, step):
            self.parts.append('<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#888"/>' % (
                self.x(t), self.x(t), bottom, bottom + 4))
            self.text(self.x(t), bottom + 16, "%d:%02d" % divmod(t, 60), anchor="middle")
        self.y = bottom + 28

    def write(self, path):
        self.axis()
        with open(path, "w") as f:
            f.write('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" '
                    'font-family="sans-serif">\n<rect width="100%%" height="100%%" fill="white"/>\n%s\n</svg>\n' % (
                        WIDTH, self.y, WIDTH, self.y, "\n".join(self.parts)))
