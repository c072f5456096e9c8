//! Pure: the view as pictures, its keys as tables, its readings as a story.

use std::path::Path;
use std::time::Duration;

use chrono::TimeDelta;
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::moment::{Focus, Moment, Wanted, sound};
use super::state::{Action, Effect, Event, Link, State, Tab, update};
use super::{text, view};
use crate::balancer::Standing;
use crate::config::{DemandUnit, Mode};
use crate::fleet::{Phase, Replica};
use crate::forecast::accuracy::MethodScore;
use crate::forecast::{Forecast, MemberSkill, Method};
use crate::io::api::query::HistoryRow;
use crate::io::api::services::History;
use crate::io::api::tests::{snapshot, web};
use crate::io::api::view::{self as api, ReplicaView, ServiceSummary};
use crate::io::service::Override;
use crate::planner::{Limit, LimitApplied, Proposal};

/// Half a day's bow with a peak of 4 cores, over `steps` steps of 15 s up to now.
fn history(steps: i32) -> History {
    let now = snapshot().time;
    let row = |i: i32| HistoryRow {
        time: now - TimeDelta::seconds(15 * i64::from(steps - 1 - i)),
        demand: (i % 40 != 7)
            .then(|| 1.0 + 3.0 * (f64::from(i) / f64::from(steps) * std::f64::consts::PI).sin()),
        lower_bound: false,
        ready_replicas: Some(if i < steps / 3 { 2.0 } else { 5.0 }),
        current_replicas: Some(5.0),
        desired_replicas: Some(5.0),
    };
    History { demand_unit: DemandUnit::Cores, step_ms: 15_000, rows: (0..steps).map(row).collect() }
}

/// Rising from 1 core, twenty steps ahead.
fn forecast() -> Forecast {
    let path = |slope: f64| (1..=20).map(|h| 1.0 + slope * f64::from(h)).collect::<Vec<f64>>();
    let paths = vec![path(0.02), path(0.1), path(0.2)];
    Forecast {
        method: Method::Foresail,
        origin: snapshot().time,
        step_ms: 15_000,
        quantiles: vec![0.1, 0.5, 0.9],
        point: path(0.1),
        peaks: paths.clone(),
        paths,
    }
}

fn replica(id: &str, phase: Phase, seconds: i64) -> ReplicaView {
    let since = snapshot().time - TimeDelta::seconds(seconds);
    let replica = Replica {
        id: id.into(),
        phase,
        since,
        address: Some(([10, 0, 0, 7], 8000).into()),
        in_flight: 3,
        managed: phase != Phase::Ready,
        ..snapshot().replicas[0].clone()
    };
    let (weight, p99) = if phase == Phase::Ready { (1.0, Some(87.4)) } else { (0.4, None) };
    let standing = Standing { weight, latency_p99_ms: p99, healthy: true, ..Default::default() };
    ReplicaView { replica, standing }
}

fn focus() -> Focus {
    let mut detail = api::detail(&web(), &snapshot());
    if let Some(decision) = &mut detail.decision {
        let proposal = |rule: &str, replicas| Proposal {
            rule: rule.into(),
            replicas,
            reason: "its reason".into(),
        };
        decision.proposals = vec![proposal("forecast", 7), proposal("threshold", 3)];
        decision.limits.push(LimitApplied {
            limit: Limit::RateLimit,
            before: 7,
            after: 5,
            reason: "at most 3 in 1m".into(),
        });
    }
    if let Some(model) = &mut detail.model {
        model.training.scores.push(MethodScore {
            method: Method::Foresail,
            mase: 0.61,
            pinball: 0.18,
            coverage_80: 0.79,
            exceed_99: 0.012,
            origins: 12,
        });
        let member = |method, weight| MemberSkill { method, mase: 0.7, weight };
        model.training.members = vec![member(Method::Regression, 0.8), member(Method::Naive, 0.2)];
    }
    detail.summary.replicas.ready = 2;
    Focus {
        detail,
        history: history(100),
        forecast: Ok(forecast()),
        replicas: vec![
            replica(&"a1".repeat(32), Phase::Ready, 7_300),
            replica("b", Phase::Warming, 12),
        ],
    }
}

fn moment(focus: Focus, more: &[ServiceSummary]) -> Moment {
    let mut services = vec![focus.detail.summary.clone()];
    services.extend_from_slice(more);
    services.sort_by(|a, b| a.name.cmp(&b.name));
    let trend = |service: &ServiceSummary| {
        let rows = focus.history.rows.iter();
        (service.name.clone(), rows.map(|row| row.demand).collect())
    };
    let trends = services.iter().map(trend).collect();
    Moment { services, focus: Some(focus), trends }
}

/// A view that has read `moment` one second after its start.
fn read(moment: Moment) -> State {
    let mut state = State::new("http://127.0.0.1:8080", Duration::from_secs(1), None);
    assert_eq!(tick(&mut state, 0), [Effect::Read(Wanted::default())]);
    tick(&mut state, 1_000);
    assert_eq!(update(&mut state, Event::Read(Ok(Box::new(moment)))), []);
    state
}

fn tick(state: &mut State, ms: u64) -> Vec<Effect> {
    update(state, Event::Tick(Duration::from_millis(ms)))
}

fn press(state: &mut State, keys: &str) -> Vec<Effect> {
    let code = |c| match c {
        '\n' => KeyCode::Enter,
        '\t' => KeyCode::Tab,
        '\x1b' => KeyCode::Esc,
        '\x08' => KeyCode::Backspace,
        c => KeyCode::Char(c),
    };
    let press = |c| update(state, Event::Key(KeyEvent::new(code(c), KeyModifiers::NONE)));
    keys.chars().flat_map(press).collect()
}

/// The picture after another one, which must leave no trace.
fn picture(state: &State, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("in memory");
    let mut other = read(moment(focus(), &[]));
    press(&mut other, "?\t");
    for state in [&other, state] {
        let draw = |frame: &mut ratatui::Frame| {
            view::render(state, frame.area(), frame.buffer_mut());
        };
        terminal.draw(draw).expect("in memory");
    }
    text::of(terminal.backend().buffer())
}

/// Compares with `tests/golden/top/NAME.txt`; `UPDATE_GOLDEN=1` rewrites it.
fn check(name: &str, state: &State, width: u16, height: u16) {
    let shown = picture(state, width, height);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/top/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &shown).expect("the golden folder");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == shown, "{name} is not as recorded (UPDATE_GOLDEN=1 records it):\n{shown}");
}

/// Ten services beside `web`.
fn others() -> Vec<ServiceSummary> {
    let base = focus().detail.summary;
    let other = |i: usize| ServiceSummary {
        name: format!("service-{i:02}"),
        mode: if i.is_multiple_of(2) { Mode::Act } else { Mode::Observe },
        demand: (i != 3).then(|| 10f64.powi(i as i32 - 3)),
        utilization: (i != 3).then_some(0.2 * i as f64),
        basis: (i != 4).then_some(crate::planner::Basis::Hold),
        notes: if i == 5 { vec!["no engine".into()] } else { vec![] },
        ..base.clone()
    };
    (0..10).map(other).collect()
}

#[test]
fn pictures_are_as_recorded() {
    check("one", &read(moment(focus(), &[])), 100, 36);
    check("narrow", &read(moment(focus(), &[])), 40, 12);
    let mut many = read(moment(focus(), &others()));
    many.selected = Some("web".into());
    check("many", &many, 160, 50);
    for (tab, name) in [(Tab::Replicas, "replicas"), (Tab::Model, "model"), (Tab::Load, "load")] {
        let mut state = read(moment(focus(), &[]));
        state.tab = tab;
        check(name, &state, 80, 16);
    }
    let mut none = read(Moment::default());
    check("none", &none, 60, 5);
    press(&mut none, "?");
    check("help", &none, 80, 16);
}

#[test]
fn an_api_that_is_away_leaves_the_old_picture_grey() {
    let mut state = read(moment(focus(), &[]));
    assert_eq!(tick(&mut state, 2_000).len(), 1);
    update(&mut state, Event::Read(Err("Connection refused".into())));
    tick(&mut state, 3_500);
    check("away", &state, 100, 24);
    let mut buffer = ratatui::buffer::Buffer::empty(ratatui::layout::Rect::new(0, 0, 100, 24));
    view::render(&state, buffer.area, &mut buffer);
    let grey = ratatui::style::Color::DarkGray;
    assert!((1..23).all(|y| (0..100).all(|x| buffer[(x, y)].fg == grey)));
}

/// What others may have written into a name, a note or a reason.
const HOSTILE: &str = "\x1b[2J\x07\r\n\t\u{202e}表計算\u{200d}👩\u{0301}";

#[test]
fn hostile_texts_stay_in_their_place() {
    let mut focus = focus();
    let summary = &mut focus.detail.summary;
    summary.name = format!("{HOSTILE}{HOSTILE}{HOSTILE}");
    summary.notes = vec![HOSTILE.into(), "x".repeat(500)];
    summary.override_ = Some(Override { replicas: 3, until: summary.time, reason: HOSTILE.into() });
    if let Some(decision) = &mut focus.detail.decision {
        decision.reason = HOSTILE.into();
        decision.proposals[0].rule = HOSTILE.into();
    }
    focus.replicas[0].replica.id = HOSTILE.into();
    let mut state = read(moment(focus, &[]));
    check("hostile", &state, 80, 24);
    for tab in Tab::ALL {
        state.tab = tab;
        for (width, height) in [(80, 24), (40, 12), (7, 3)] {
            let shown = picture(&state, width, height);
            assert!(!shown.replace('\n', "").contains(char::is_control), "{shown:?}");
            assert!(!shown.contains('\u{202e}'), "{shown:?}");
            let widths = shown.lines().map(|line| ratatui::text::Span::raw(line).width());
            assert!(widths.max() <= Some(usize::from(width)), "{shown}");
        }
    }
}

#[test]
fn keys_lead_to_actions() {
    let now = snapshot().time;
    let override_ = |replicas, minutes, reason: &str| {
        vec![Effect::Act(Action::Override {
            service: "web".into(),
            replicas,
            until: now + TimeDelta::minutes(minutes),
            reason: reason.into(),
        })]
    };
    let mode = || vec![Effect::Act(Action::SetMode { service: "web".into(), mode: Mode::Act })];
    // Web observes, wants 5 replicas, and may have 1 to 20.
    let cases: [(&str, Vec<Effect>, &str); 16] = [
        ("q", vec![Effect::Quit], ""),
        ("h\n", override_(5, 10, "held in foresail top"), ""),
        ("h\x08\x08\x082m\n", override_(5, 2, "held in foresail top"), ""),
        ("o7\n\n", override_(7, 10, "set in foresail top"), ""),
        ("o21\n", vec![], "how many replicas (1 to 20)? 21█  (a whole number from 1 to 20)"),
        ("o0\n", vec![], "0█  (a whole number from 1 to 20)"),
        ("ox\n", vec![], "x█  (a whole number from 1 to 20)"),
        ("o21\n\x08\x083\n\n", override_(3, 10, "set in foresail top"), ""),
        ("o3\n\x08\x08\x08soon\n", vec![], "soon█  (from 1s to 30d, for instance 10m or 2h 30m)"),
        ("o3\n\x08\x08\x0831d\n", vec![], "31d█  (from 1s to 30d"),
        ("oq\x1b", vec![], "nothing was changed"),
        ("m", vec![], "web: let Foresail start and stop replicas? y/n"),
        ("mxy", mode(), ""),
        ("mn", vec![], "nothing was changed"),
        ("d", vec![], "web has no override"),
        ("?q", vec![], "? help"),
    ];
    for (keys, expected, foot) in cases {
        let mut state = read(moment(focus(), &[]));
        let effects = press(&mut state, keys);
        assert_eq!(effects, expected, "{keys:?}");
        let shown = picture(&state, 100, 24);
        assert!(shown.lines().last().unwrap_or_default().contains(foot), "{keys:?}: {shown}");
    }
    let mut focus = focus();
    focus.detail.summary.override_ =
        Some(Override { replicas: 3, until: now, reason: "sale".into() });
    let ended = press(&mut read(moment(focus, &[])), "d");
    assert_eq!(ended, [Effect::Act(Action::EndOverride { service: "web".into() })]);
    let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    let mut state = read(moment(self::focus(), &[]));
    press(&mut state, "o");
    assert_eq!(update(&mut state, Event::Key(control)), [Effect::Quit]);
}

#[test]
fn nothing_can_be_changed_while_the_api_is_away_or_nothing_is_known() {
    for keys in ["h", "o", "d", "m"] {
        let mut state = read(moment(focus(), &[]));
        update(&mut state, Event::Read(Err("gone".into())));
        assert_eq!(press(&mut state, keys), []);
        assert!(state.message().is_some_and(Result::is_err), "{keys}");
        assert_eq!(press(&mut read(Moment::default()), keys), []);
    }
}

#[test]
fn readings_follow_the_interval_and_back_off_while_the_api_is_away() {
    let mut state = read(moment(focus(), &[]));
    assert_eq!(tick(&mut state, 1_999), []);
    let wanted = Wanted { service: Some("web".into()), zoom: 0, fresh: vec!["web".into()] };
    assert_eq!(tick(&mut state, 2_000), [Effect::Read(wanted)]);
    // One at a time, however long it takes.
    assert_eq!(tick(&mut state, 60_000), []);
    let mut now = 60_000;
    // 1 s doubled at each failure, at most 30 s.
    for (failures, pause) in [(1, 2_000), (2, 4_000), (3, 8_000), (4, 16_000), (5, 30_000)] {
        update(&mut state, Event::Read(Err("gone".into())));
        let since = Duration::from_millis(60_000);
        assert_eq!(state.link, Link::Away { since, reason: "gone".into(), failures });
        assert_eq!(tick(&mut state, now + pause - 1), []);
        now += pause;
        assert_eq!(tick(&mut state, now).len(), 1);
    }
    update(&mut state, Event::Read(Ok(Box::new(moment(focus(), &[])))));
    assert_eq!(state.link, Link::Up);
    // An action is followed by a reading; one that was asked for meanwhile comes right after.
    assert_eq!(update(&mut state, Event::Acted(Ok("done".into()))).len(), 1);
    assert_eq!(press(&mut state, "r"), []);
    assert_eq!(update(&mut state, Event::Read(Ok(Box::new(moment(focus(), &[]))))).len(), 1);
    assert_eq!(update(&mut state, Event::Read(Ok(Box::new(moment(focus(), &[]))))), []);
}

#[test]
fn the_selection_follows_services_that_come_and_go() {
    let mut state = read(moment(focus(), &others()));
    assert_eq!(state.selected.as_deref(), Some("service-00"));
    let asked = |effects: &[Effect]| match effects {
        [Effect::Read(wanted)] => wanted.service.clone(),
        _ => None,
    };
    assert_eq!(asked(&press(&mut state, "j")).as_deref(), Some("service-01"));
    // What is read of another one is not shown as its own.
    assert_eq!(state.shown(), None);
    press(&mut state, "jjjjjjjjjjjjjjj");
    assert_eq!(state.selected.as_deref(), Some("web"));
    press(&mut state, "k");
    update(&mut state, Event::Read(Ok(Box::new(moment(focus(), &[])))));
    assert_eq!(state.selected.as_deref(), Some("web"));
    let gone = state.message().cloned();
    assert_eq!(gone, Some(Err("no service `service-09`; known: web".into())));
    update(&mut state, Event::Read(Ok(Box::default())));
    assert_eq!(press(&mut state, "jk\t"), []);
    assert_eq!((&state.selected, state.shown()), (&None, None));
}

#[test]
fn what_cannot_be_is_not_drawn() {
    let mut late = moment(focus(), &[]);
    late.services[0].time = chrono::DateTime::<chrono::Utc>::MAX_UTC;
    assert!(sound(late).unwrap_err().contains("which cannot be"));
    let mut torn = moment(focus(), &[]);
    let paths = torn.focus.as_mut().and_then(|focus| focus.forecast.as_mut().ok());
    paths.expect("a forecast").paths[1].pop();
    let forecast = sound(torn).unwrap().focus.unwrap().forecast;
    assert_eq!(forecast, Err("the API sent one with missing values".into()));
}

fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1e308), Just(5e-324), Just(-1.0), 0.0..10.0]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_answer_and_no_size_panics(
        width in 1u16..170, height in 1u16..60, tab in 0usize..4, scroll in any::<u16>(),
        demand in any_number(), capacity in any_number(), path in any_number(),
        step_ms in prop_oneof![Just(0), Just(u64::MAX), 1u64..100_000],
        steps in 0i32..50, shift in -1_000_000_000i64..1_000_000_000, count in any::<usize>(),
    ) {
        let mut focus = focus();
        focus.history = History { step_ms, ..history(steps) };
        focus.history.rows.iter_mut().for_each(|row| row.demand = Some(demand));
        let summary = &mut focus.detail.summary;
        (summary.capacity, summary.replicas.ready, summary.replicas.warming) = (capacity, count, 1);
        let time = summary.time;
        if let Ok(forecast) = &mut focus.forecast {
            forecast.paths.iter_mut().for_each(|values| values[3] = path);
            (forecast.step_ms, forecast.origin) = (step_ms, time + TimeDelta::seconds(shift));
        }
        let mut state = read(sound(moment(focus, &others())).expect("sound"));
        state.selected = Some("web".into());
        (state.tab, state.scroll) = (Tab::ALL[tab], scroll);
        picture(&state, width, height);
    }
}
