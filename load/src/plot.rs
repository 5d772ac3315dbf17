//! Line charts as SVG, with nothing from elsewhere: no script, no font, no style sheet. Colours are named by class, so
//! that the page around them decides (see [`STYLE`]).
//!
//! ```text
//!  ┌ title ────────────────── legend ┐  ▲
//!  │ label ┤                         │  │ HEIGHT
//!  │ label ┤        lines            │  │
//!  │ label ┼────┬────┬────┬────┬─────│  │
//!  └──────────label─label─label──────┘  ▼
//! ```

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 34.0;
/// Width of a letter of the legend, about.
const LETTER: f64 = 6.6;

/// What the classes of a chart look like; a page has it once.
pub const STYLE: &str = "\
svg.chart{width:100%;height:auto;display:block;font:12px/1 system-ui,sans-serif}
.chart text{fill:var(--soft)}.chart .title{fill:var(--ink);font-weight:600;font-size:14px}
.chart .grid{stroke:var(--line);stroke-width:1}.chart .axis{stroke:var(--soft);stroke-width:1}
.chart polyline{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.chart polygon{stroke:none;opacity:.14}.chart circle{stroke:var(--card);stroke-width:1.5}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}.c4{stroke:var(--c4)}.c5{stroke:var(--c5)}
.f0{fill:var(--c0)}.f1{fill:var(--c1)}.f2{fill:var(--c2)}.f3{fill:var(--c3)}.f4{fill:var(--c4)}.f5{fill:var(--c5)}";

/// Colours there are; lines beyond them begin again.
const COLOURS: usize = 6;

/// How values lie on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from zero.
    Linear,
    /// By their powers of ten. For values above zero.
    Log,
}

/// An axis: how values lie on it, and how they are written.
pub struct Axis {
    /// How values lie on it.
    pub scale: Scale,
    /// A value as text.
    pub label: fn(f64) -> String,
    /// The places with labels; `None` to choose round ones.
    pub ticks: Option<Vec<(f64, String)>>,
}

impl Axis {
    /// An axis with round places labelled.
    #[must_use]
    pub fn new(scale: Scale, label: fn(f64) -> String) -> Self {
        Self { scale, label, ticks: None }
    }
}

/// A line and its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What the legend says.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
    /// Whether what is below it is tinted.
    pub filled: bool,
    /// Whether its points are marked.
    pub marked: bool,
}

/// A chart of some lines.
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// What is drawn.
    pub lines: Vec<Line>,
}

/// A stretch of values, and where on the page it lies.
struct Span {
    scale: Scale,
    from: f64,
    to: f64,
    page_from: f64,
    page_to: f64,
}

impl Span {
    fn of(values: impl Iterator<Item = f64>, scale: Scale, page_from: f64, page_to: f64) -> Self {
        let shown = values.filter(|value| value.is_finite() && (scale == Scale::Linear || *value > 0.0));
        let (low, high) = shown
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let (from, to) = match scale {
            _ if low > high => (if scale == Scale::Log { 1.0 } else { 0.0 }, 10.0),
            Scale::Linear => (low.min(0.0), if high > 0.0 { high } else { 1.0 }),
            // Half a decade at least, so that a flat line is no noise.
            Scale::Log => (low / 1.3, (high * 1.3).max(low * 3.0)),
        };
        Self { scale, from, to, page_from, page_to }
    }

    fn place(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Log => (value.max(self.from) / self.from).ln() / (self.to / self.from).ln(),
        };
        self.page_from + share * (self.page_to - self.page_from)
    }

    /// Round values inside.
    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = round_step((self.to - self.from) / 5.0);
                let first = (self.from / step).ceil() as i64;
                let last = (self.to / step).floor() as i64;
                (first..=last).map(|count| count as f64 * step).collect()
            }
            Scale::Log => {
                let decades = self.from.log10().floor() as i32..=self.to.log10().ceil() as i32;
                let wide = self.to / self.from > 1_000.0;
                let steps: &[f64] = if wide { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let all = decades.flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)));
                all.filter(|value| (self.from..=self.to).contains(value)).collect()
            }
        }
    }
}

/// The next of 1, 2, 5, 10, 20, …
fn round_step(at_least: f64) -> f64 {
    let decade = 10_f64.powf(at_least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade);
    steps.into_iter().find(|step| *step >= at_least * 0.999).unwrap_or(at_least)
}

impl Chart {
    /// The chart as one `<svg>` element.
    #[must_use]
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| line.points.iter());
        let x = Span::of(points().map(|point| point.0), self.x.scale, LEFT, WIDTH - RIGHT);
        let y = Span::of(points().map(|point| point.1), self.y.scale, HEIGHT - BOTTOM, TOP);
        let mut svg = format!(
            "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n\
             <text class=\"title\" x=\"0\" y=\"16\">{title}</text>\n",
            title = escape(&self.title),
        );
        self.draw_grid(&mut svg, &x, &y);
        // The first one lies on top.
        for (number, line) in self.lines.iter().enumerate().rev() {
            draw_line(&mut svg, number % COLOURS, line, &x, &y);
        }
        if self.lines.len() > 1 {
            self.draw_legend(&mut svg);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn draw_grid(&self, svg: &mut String, x: &Span, y: &Span) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (value, label) in self.y.labels(y) {
            let at = y.place(value);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                at + 4.0,
                escape(&label),
            );
        }
        for (value, label) in self.x.labels(x) {
            let at = x.place(value);
            let _ = writeln!(
                svg,
                "<line class=\"axis\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{bottom}\" y2=\"{:.1}\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 4.0,
                bottom + 19.0,
                escape(&label),
            );
        }
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>"
        );
    }

    fn draw_legend(&self, svg: &mut String) {
        let mut right = WIDTH - RIGHT;
        for (number, line) in self.lines.iter().enumerate().rev() {
            let width = line.name.chars().count() as f64 * LETTER;
            let text_at = right - width;
            let _ = writeln!(
                svg,
                "<rect class=\"f{}\" x=\"{:.1}\" y=\"7\" width=\"10\" height=\"10\" rx=\"2\"/>\
                 <text x=\"{text_at:.1}\" y=\"16\">{}</text>",
                number % COLOURS,
                text_at - 15.0,
                escape(&line.name),
            );
            right = text_at - 32.0;
        }
    }
}

impl Axis {
    fn labels(&self, span: &Span) -> Vec<(f64, String)> {
        match &self.ticks {
            Some(ticks) => {
                let inside = |value: f64| value >= span.from - 1e-9 && value <= span.to + 1e-9;
                ticks.iter().filter(|tick| inside(tick.0)).cloned().collect()
            }
            None => span.ticks().into_iter().map(|value| (value, (self.label)(value))).collect(),
        }
    }
}

fn draw_line(svg: &mut String, colour: usize, line: &Line, x: &Span, y: &Span) {
    let places: Vec<(f64, f64)> =
        line.points.iter().map(|point| (x.place(point.0), y.place(point.1))).collect();
    let (Some(first), Some(last)) = (places.first(), places.last()) else { return };
    let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let path = path.join(" ");
    if line.filled {
        let bottom = HEIGHT - BOTTOM;
        let _ = writeln!(
            svg,
            "<polygon class=\"f{colour}\" points=\"{:.1},{bottom} {path} {:.1},{bottom}\"/>",
            first.0, last.0
        );
    }
    let _ = writeln!(svg, "<polyline class=\"c{colour}\" points=\"{path}\"/>");
    if line.marked || places.len() == 1 {
        for (x, y) in &places {
            let _ = writeln!(svg, "<circle class=\"f{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>");
        }
    }
}

/// Text that means nothing to HTML.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale, points: Vec<(f64, f64)>) -> String {
        let axis = |scale| Axis::new(scale, |value| format!("{value}"));
        let line = Line { name: "a <b>".into(), points, filled: true, marked: false };
        let lines = vec![line.clone(), line];
        Chart { title: "x & y".into(), x: axis(Scale::Linear), y: axis(scale), lines }.svg()
    }

    #[test]
    fn whatever_is_drawn_stays_inside_and_is_a_number() {
        let odd = [vec![], vec![(0.0, 0.0)], vec![(0.0, 0.0), (1.0, 0.0)], vec![(5.0, 7.0), (9.0, 7.0)]];
        for scale in [Scale::Linear, Scale::Log] {
            for points in &odd {
                let svg = chart(scale, points.clone());
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
        let svg = chart(Scale::Log, vec![(0.0, 0.0), (1.0, 1e6)]);
        let path = svg.split("<polyline").nth(1).and_then(|rest| rest.split("points=\"").nth(1)).unwrap();
        for pair in path.split('"').next().unwrap().split(' ') {
            let (x, y) = pair.split_once(',').unwrap();
            assert!((LEFT..=WIDTH).contains(&x.parse::<f64>().unwrap()), "{pair}");
            assert!((0.0..=HEIGHT).contains(&y.parse::<f64>().unwrap()), "{pair}");
        }
    }

    #[test]
    fn names_mean_nothing_to_html() {
        let svg = chart(Scale::Linear, vec![(0.0, 1.0), (1.0, 2.0)]);
        assert!(svg.contains("x &amp; y") && svg.contains("a &lt;b&gt;") && !svg.contains("<b>"));
    }

    #[test]
    fn labels_are_round() {
        assert_eq!(round_step(0.37), 0.5);
        assert_eq!(round_step(14.0), 20.0);
        let span = Span::of([0.0, 23.0].into_iter(), Scale::Linear, 0.0, 1.0);
        assert_eq!(span.ticks(), [0.0, 5.0, 10.0, 15.0, 20.0]);
        let span = Span::of([3.0, 70.0].into_iter(), Scale::Log, 0.0, 1.0);
        assert_eq!(span.ticks(), [5.0, 10.0, 20.0, 50.0]);
    }
}
