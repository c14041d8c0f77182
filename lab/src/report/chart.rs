//! Timeline chart of a report.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::{Report, escape};
use crate::workload::history::HistoryEvent;

/// Size of the drawing, in its own units. A browser scales it.
const WIDTH: f64 = 1200.0;
const LEFT: f64 = 110.0;
const RIGHT: f64 = 20.0;

/// Vertical positions: scenario names, event numbers, a lane per node, the curve, the axis.
const SCENARIOS: f64 = 32.0;
const BADGES: f64 = SCENARIOS + 16.0;
const BADGE_ROWS: usize = 3;
const BADGE: f64 = 17.0;
const LANES: f64 = BADGES + 54.0;
const LANE: f64 = 34.0;
const CURVE: f64 = 120.0;
const AXIS: f64 = 26.0;

/// Returns the events to list, with their numbers. The start and end of scenarios are shown as
/// bands.
pub(super) fn numbered_events(
    events: &[HistoryEvent],
) -> impl Iterator<Item = (usize, &HistoryEvent)> {
    let is_told =
        |event: &&HistoryEvent| !event.what.ends_with(" begins") && !event.what.ends_with(" ends");
    (1..).zip(events.iter().filter(is_told))
}

/// Formats a time as minutes and seconds.
pub(super) fn clock(at: Duration) -> String {
    let tenths = at.as_millis() / 100;
    let (minutes, rest) = (tenths / 600, tenths % 600);
    format!("{minutes}:{:02}.{}", rest / 10, rest % 10)
}

/// Draws the whole timeline.
pub(super) fn draw(page: &mut String, report: &Report) -> fmt::Result {
    let seconds = report.acknowledged_per_second.sql.len().max(1);
    let chart = Chart {
        report,
        page,
        per_second: (WIDTH - LEFT - RIGHT) / number(seconds),
        seconds,
    };
    chart.draw()
}

struct Chart<'a> {
    report: &'a Report,
    page: &'a mut String,
    per_second: f64,
    seconds: usize,
}

impl Chart<'_> {
    fn draw(mut self) -> fmt::Result {
        let height = self.bottom() + AXIS;
        writeln!(
            self.page,
            "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-label=\"Which node acknowledged writes when, and how many a second\">"
        )?;
        self.bands()?;
        self.axis()?;
        self.events()?;
        self.lanes()?;
        self.curve()?;
        self.page.push_str("</svg>\n");
        Ok(())
    }

    fn bands(&mut self) -> fmt::Result {
        let height = self.bottom() - SCENARIOS;
        for (index, scenario) in self.report.scenarios.iter().enumerate() {
            // Names of short consecutive scenarios would overlap on one line.
            let baseline = if index % 2 == 0 { 12 } else { 26 };
            let (from, to) = (self.x(scenario.span.from), self.x(scenario.span.to));
            let (width, name) = (to - from, escape(&scenario.name.replace('_', " ")));
            writeln!(
                self.page,
                "<rect class=\"band\" x=\"{from:.1}\" y=\"{SCENARIOS}\" width=\"{width:.1}\" height=\"{height}\" rx=\"4\"/>\
                 <text x=\"{from:.1}\" y=\"{baseline}\">{name}</text>"
            )?;
        }
        Ok(())
    }

    fn axis(&mut self) -> fmt::Result {
        let bottom = self.bottom();
        for second in (0..=self.seconds).step_by(10) {
            let x = LEFT + number(second) * self.per_second;
            let label = format!("{}:{:02}", second / 60, second % 60);
            writeln!(
                self.page,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{LANES}\" y2=\"{bottom}\"/>\
                 <text class=\"soft\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                bottom + 16.0
            )?;
        }
        Ok(())
    }

    fn events(&mut self) -> fmt::Result {
        let bottom = self.bottom();
        let mut free_from = [0.0; BADGE_ROWS];
        for (number, mark) in numbered_events(&self.report.events) {
            let x = self.x(mark.at);
            let row = free_from
                .iter()
                .position(|free| *free <= x)
                .unwrap_or(BADGE_ROWS - 1);
            if let Some(free) = free_from.get_mut(row) {
                *free = x + BADGE;
            }
            let y = BADGES + self::number(row) * BADGE;
            writeln!(
                self.page,
                "<line class=\"event\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y:.1}\" y2=\"{bottom}\"/>\
                 <g><title>{}</title><circle class=\"badge\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"8\"/>\
                 <text class=\"badge-text\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{number}</text></g>",
                escape(&mark.what),
                y + 3.5
            )?;
        }
        Ok(())
    }

    fn lanes(&mut self) -> fmt::Result {
        for (lane, top) in self.report.nodes.iter().zip(lane_tops()) {
            writeln!(
                self.page,
                "<text x=\"0\" y=\"{:.1}\" font-weight=\"600\">node {}</text>\
                 <text class=\"soft\" x=\"0\" y=\"{:.1}\">{}</text>\
                 <line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{3:.1}\" y2=\"{3:.1}\"/>",
                top + 11.0,
                escape(&lane.node),
                top + 25.0,
                escape(&lane.zone),
                WIDTH - RIGHT,
            )?;
            for span in &lane.writable {
                let (from, to) = (self.x(span.from), self.x(span.to));
                writeln!(
                    self.page,
                    "<rect class=\"lane-{}\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"16\" rx=\"3\">\
                     <title>node {} acknowledged writes from {} to {}</title></rect>",
                    escape(&lane.node),
                    top + 5.0,
                    (to - from).max(1.5),
                    escape(&lane.node),
                    clock(span.from),
                    clock(span.to)
                )?;
            }
        }
        Ok(())
    }

    fn curve(&mut self) -> fmt::Result {
        let counts = &self.report.acknowledged_per_second;
        let most = counts.api.iter().chain(&counts.sql).max();
        let most = most.copied().unwrap_or(0).max(1);
        let bottom = self.bottom();
        let y = |count: u32| bottom - f64::from(count) / f64::from(most) * (CURVE - 24.0);
        let points = |counts: &[u32]| {
            let middle = |second: usize| LEFT + (number(second) + 0.5) * self.per_second;
            let points = counts.iter().enumerate();
            points
                .map(|(second, count)| format!("{:.1},{:.1}", middle(second), y(*count)))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let (sql, api) = (points(&counts.sql), points(&counts.api));
        let right = WIDTH - RIGHT;
        writeln!(
            self.page,
            "<polygon class=\"sql\" points=\"{LEFT},{bottom} {sql} {right},{bottom}\"/>\
             <polyline class=\"api\" points=\"{api}\"/>\
             <text x=\"0\" y=\"{:.1}\" font-weight=\"600\">rows a second</text>\
             <text class=\"soft\" x=\"0\" y=\"{:.1}\">area: by SQL</text>\
             <text class=\"soft\" x=\"0\" y=\"{:.1}\">line: by the API</text>\
             <text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{most}</text>",
            bottom - 62.0,
            bottom - 46.0,
            bottom - 30.0,
            LEFT - 6.0,
            y(most) + 4.0
        )
    }

    fn x(&self, at: Duration) -> f64 {
        LEFT + at.as_secs_f64() * self.per_second
    }

    fn bottom(&self) -> f64 {
        LANES + number(self.report.nodes.len()) * LANE + CURVE
    }
}

fn lane_tops() -> impl Iterator<Item = f64> {
    (0..).map(|lane| LANES + number(lane) * LANE)
}

/// Returns a small count as a coordinate.
fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}
