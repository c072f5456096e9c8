//! Pure: draws the state of `foresail top` on a buffer of any size.
//!
//! From top to bottom: where the API is and whether it answers, the services, the chart of the one
//! that is selected, what is known of it, the keys. Where there is no room the chart goes first; it
//! stays a tab of its own. Everything that was read is grey while the API is away. Texts from
//! elsewhere go through [`text::clean`], and the buffer drops what has no width.

mod chart;
mod pane;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Margin, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Widget, Wrap};

use super::state::{Link, State, Tab};
use super::text::{self, put, put_right};
use crate::config::{DemandUnit, Mode};
use crate::io::api::view::ServiceSummary;
use crate::planner::Basis;

/// Fewest lines below the list in which the chart finds room beside another tab.
const SPLIT_HEIGHT: u16 = 18;
/// Below it the list has no columns for basis and trend.
const WIDE: u16 = 60;

const GREY: Style = Style::new().fg(Color::DarkGray);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const ALARM: Style = Style::new().fg(Color::Red);

const HELP: [&str; 12] = [
    "up down, j k   choose a service",
    "tab, enter     what is shown of it",
    "page up, down  move in a long text",
    "+ -            a shorter, a longer past on the chart",
    "h              hold: keep its replicas as they are, for a time",
    "o              override: as many replicas as you say, for a time",
    "d              end the hold or override",
    "m              switch between observe and act, until a restart",
    "r              read now",
    "q, Ctrl-C      quit",
    "",
    "! marks a service with notes: what is wrong with it now",
];

/// Draws everything.
pub fn render(state: &State, area: Rect, buffer: &mut Buffer) {
    let rows = [Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)];
    let [head, body, foot] = Layout::vertical(rows).areas(area.intersection(buffer.area));
    draw_body(state, body, buffer);
    if state.link != Link::Up {
        buffer.set_style(body, Style::reset().fg(Color::DarkGray));
    }
    draw_head(state, head, buffer);
    draw_foot(state, foot, buffer);
    if state.help {
        draw_help(body, buffer);
    }
}

fn draw_head(state: &State, area: Rect, buffer: &mut Buffer) {
    let passed = |since| text::age(state.now.saturating_sub(since));
    let (style, link) = match &state.link {
        Link::Connecting => (Style::new().fg(Color::Yellow), "○ connecting".to_string()),
        Link::Up => (Style::new().fg(Color::Green), "● connected".to_string()),
        Link::Away { since, reason, .. } => {
            let next = text::age(state.next.saturating_sub(state.now));
            let picture = match state.services.is_empty() {
                true => String::new(),
                false => format!("; picture {} old", passed(state.read_at)),
            };
            let away = passed(*since);
            (ALARM, format!("○ away for {away}{picture}; next try in {next}: {reason}"))
        }
    };
    let at = |x| (area.x + x, area.y);
    let url = state.url.trim_start_matches("http://");
    let wide = area.width >= WIDE;
    let title = if wide { format!("Foresail top  {url}  ") } else { format!("{url} ") };
    put(buffer, at(0), area.width, &title, BOLD);
    let used = Span::raw(&title).width().min(usize::from(area.width)) as u16;
    put(buffer, at(used), area.width - used, &link, style);
    let time = state.services.first().map(|service| service.time.format("%H:%M:%S UTC"));
    if let Some(time) = time.filter(|_| wide && state.link == Link::Up) {
        put_right(buffer, at(area.width / 2), area.width - area.width / 2, &time.to_string(), GREY);
    }
}

fn draw_foot(state: &State, area: Rect, buffer: &mut Buffer) {
    let at = (area.x, area.y);
    if let Some(prompt) = &state.prompt {
        let error = prompt.error.as_ref().map(|error| format!("  ({error})")).unwrap_or_default();
        let line = format!("{} {}█{error}", prompt.text(), prompt.typed);
        return put(buffer, at, area.width, &line, Style::new().fg(Color::Yellow));
    }
    match state.message() {
        Some(Ok(message)) => put(buffer, at, area.width, message, Style::new().fg(Color::Green)),
        Some(Err(message)) => put(buffer, at, area.width, message, ALARM),
        None if area.width >= WIDE => {
            let keys =
                "↑↓ service  tab detail  h hold  o override  d end it  m mode  ? help  q quit";
            put(buffer, at, area.width, keys, GREY);
        }
        None => put(buffer, at, area.width, "↑↓ tab h o d m  ? help  q quit", GREY),
    }
}

fn draw_help(body: Rect, buffer: &mut Buffer) {
    let size = (body.width.min(66), body.height.min(HELP.len() as u16 + 2));
    let area = Rect::new(body.x, body.y, size.0, size.1);
    Clear.render(area, buffer);
    let lines: Vec<Line> = HELP.iter().map(|line| Line::raw(*line)).collect();
    Paragraph::new(lines).block(Block::bordered().title(" keys ")).render(area, buffer);
}

fn draw_body(state: &State, area: Rect, buffer: &mut Buffer) {
    if state.services.is_empty() {
        let line = match state.link {
            Link::Up => "no service yet: none is configured, and none was found",
            Link::Connecting | Link::Away { .. } => "nothing was read yet",
        };
        let area = area.inner(Margin::new(1, 1));
        return Paragraph::new(line).wrap(Wrap { trim: true }).render(area, buffer);
    }
    let all = u16::try_from(state.services.len()).unwrap_or(u16::MAX).saturating_add(1);
    let list_height = all.min((area.height / 4).max(3));
    let rows = [Constraint::Length(list_height), Constraint::Min(0)];
    let [list, rest] = Layout::vertical(rows).areas(area);
    draw_list(state, list, buffer);
    let Some(focus) = state.shown() else {
        return put(buffer, (rest.x, rest.y), rest.width, "reading …", GREY);
    };
    if state.tab == Tab::Load {
        let [title, chart] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(rest);
        draw_tabs(state, title, buffer);
        return chart::draw(focus, chart, buffer);
    }
    let split = rest.height >= SPLIT_HEIGHT;
    let chart_height = if split { rest.height - (rest.height * 2 / 5).clamp(9, 14) } else { 0 };
    let rows = [Constraint::Length(chart_height), Constraint::Length(1), Constraint::Min(0)];
    let [chart, title, below] = Layout::vertical(rows).areas(rest);
    chart::draw(focus, chart, buffer);
    draw_tabs(state, title, buffer);
    pane::draw(state.tab, focus, state.scroll, below, buffer);
}

fn draw_tabs(state: &State, area: Rect, buffer: &mut Buffer) {
    let mut x = 0;
    for tab in Tab::ALL {
        let (text, style) = match tab == state.tab {
            true => (format!("[{}]", tab.name()), BOLD),
            false => (format!(" {} ", tab.name()), GREY),
        };
        put(buffer, (area.x + x, area.y), area.width.saturating_sub(x), &text, style);
        x += text.len() as u16 + 1;
    }
}

/// Widths of mark, name, note, mode, basis, load, use, replicas and trend; 0 is left out.
fn columns(width: u16) -> [u16; 9] {
    let mut columns = match width >= WIDE {
        true => [1, 0, 1, 7, 8, 8, 6, 10, 0],
        false => [1, 0, 1, 7, 0, 0, 6, 10, 0],
    };
    // A gap follows each column. The name takes what is left, up to its limit, then the trend.
    let gaps = columns.iter().filter(|width| **width > 0).count() as u16 + 2;
    let left = width.saturating_sub(columns.iter().sum::<u16>() + gaps);
    columns[1] = left.min(24);
    columns[8] = (left - columns[1]).min(60);
    columns
}

fn draw_list(state: &State, area: Rect, buffer: &mut Buffer) {
    let [head, rows] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    let columns = columns(area.width);
    let titles = ["", "service", "", "mode", "basis", "load", "use", "ready/want", "trend, 1 h"];
    draw_row(head, buffer, columns, titles.map(|title| (title.to_string(), GREY)));
    let height = usize::from(rows.height).max(1);
    let first = state.place().unwrap_or(0).saturating_sub(height - 1);
    for (line, service) in rows.rows().zip(state.services.iter().skip(first)) {
        let selected = state.selected.as_ref() == Some(&service.name);
        let trend = state.trends.get(&service.name).map(|(_, trend)| trend.as_slice());
        let trend = text::sparkline(trend.unwrap_or_default(), usize::from(columns[8]));
        draw_row(line, buffer, columns, cells(service, trend, selected));
    }
}

fn cells(service: &ServiceSummary, trend: String, selected: bool) -> [(String, Style); 9] {
    let plain = Style::new();
    let absent = || "-".to_string();
    let basis = match service.basis {
        Some(Basis::Forecast) => ("forecast", plain.fg(Color::Cyan)),
        Some(Basis::Reactive) => ("reactive", plain),
        Some(Basis::Hold) => ("hold", plain.fg(Color::Yellow)),
        None => ("-", plain),
    };
    let overridden = service.override_.is_some();
    let basis = if overridden { ("override", plain.fg(Color::Magenta)) } else { basis };
    let use_style = match service.utilization {
        Some(utilization) if utilization > 1.0 => ALARM,
        _ => plain,
    };
    // Counted elsewhere, so they may be anything.
    let serving = service.replicas.ready.saturating_add(service.replicas.warming);
    let desired = service.desired_replicas.map_or_else(absent, |n| n.to_string());
    let mode_style = if service.mode == Mode::Act { plain.fg(Color::Green) } else { plain };
    [
        (if selected { "▸" } else { "" }.to_string(), BOLD),
        (service.name.clone(), if selected { BOLD } else { plain }),
        (if service.notes.is_empty() { "" } else { "!" }.to_string(), ALARM),
        (service.mode.name().to_string(), mode_style),
        (basis.0.to_string(), basis.1),
        (service.demand.map_or_else(absent, text::number), plain),
        (service.utilization.map_or_else(absent, text::percent), use_style),
        (format!("{serving}/{desired}"), plain),
        (trend, plain.fg(Color::Cyan)),
    ]
}

fn draw_row(area: Rect, buffer: &mut Buffer, columns: [u16; 9], cells: [(String, Style); 9]) {
    let mut x = area.x;
    for (i, ((text, style), width)) in cells.iter().zip(columns).enumerate() {
        if width == 0 {
            continue;
        }
        let room = width.min(area.right().saturating_sub(x));
        match i {
            5..=7 => put_right(buffer, (x, area.y), room, text, *style),
            _ => put(buffer, (x, area.y), room, text, *style),
        }
        x = x.saturating_add(width + 1);
    }
}

fn unit(unit: DemandUnit) -> &'static str {
    match unit {
        DemandUnit::Cores => "cores",
        DemandUnit::RequestsPerSecond => "requests/s",
    }
}
