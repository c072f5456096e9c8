//! Pure: how the pages of reports begin, and what they look like.

use crate::io::plot;

/// The head of a page that needs nothing else, up to its title.
pub fn begin(title: &str) -> String {
    let style = plot::STYLE;
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{style}{STYLE}</style>\n<h1>{title}</h1>\n"
    )
}

const STYLE: &str = "\
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 0 auto;
  padding: 0 16px 48px; color: #1b1b1b; background: #fff }
h1 { margin: 28px 0 4px } h2 { margin: 44px 0 6px; overflow-wrap: anywhere }
p { margin: 6px 0; max-width: 75ch } .quiet { color: #666 }
.scroll { overflow-x: auto } table { border-collapse: collapse; margin: 10px 0 }
th, td { text-align: right; padding: 3px 14px 3px 0; font-variant-numeric: tabular-nums }
th { font-weight: 500; color: #666; border-bottom: 1px solid #ddd } th:first-child, td:first-child
  { text-align: left } .best { font-weight: 700 }
.lost { color: #b3380a } .won { color: #16733c }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 12px }
figure { margin: 8px 0 } figure > svg { max-width: 100%; height: auto }
figcaption { color: #666; font-size: 13px }
.panels svg { width: 100%; height: auto } .strip { width: 100%; height: 84px; display: block }
.chart.strip path { vector-effect: non-scaling-stroke; stroke-width: 1 }
.ends { display: flex; justify-content: space-between }
.key-history { color: #3a3a3a } .key-median { color: #1c6dd0 } .key-actual { color: #d4480b }
@media (prefers-color-scheme: dark) {
body { color: #e2e6ec; background: #14171c } .quiet, th, figcaption { color: #9aa2ad }
th { border-color: #333a44 } .lost { color: #ff9550 } .won { color: #63c98a }
.key-history { color: #cdd2da } .key-median { color: #6fb0ff } .key-actual { color: #ff9550 }
}
";
