//! The curve: flows against Mpps, ours beside the peer and the eSwitch's own, as an SVG.

use crate::measure::Row;
use plotters::prelude::*;
use std::path::Path;

/// What the eSwitch itself forwards, in Mpps, by flows.
pub const HARDWARE: [(u32, f64); 3] = [(1, 33.0), (2_000, 25.0), (60_000, 17.0)];
/// The scenario whose rows the curve shows.
const SCENARIO: &str = "flows";

type Points = Vec<(f64, f64)>;

fn points(rows: &[Row], of: fn(&Row) -> Option<f64>) -> Points {
    rows.iter().filter(|r| r.scenario == SCENARIO).filter_map(|r| Some((f64::from(r.flows), of(r)?))).collect()
}

/// Draws what there is of the curve; nothing if no row of it was measured.
pub fn draw(path: &Path, rows: &[Row]) -> Result<(), Box<dyn std::error::Error>> {
    let ours = points(rows, |r| r.mpps);
    if ours.is_empty() {
        return Ok(());
    }
    let hardware: Points = HARDWARE.iter().map(|(flows, mpps)| (f64::from(*flows), *mpps)).collect();
    let lines = [
        ("Ferrule, one core", BLUE, ours),
        ("limit of this processor, memory to memory", GREEN, points(rows, |r| r.limit)),
        ("eSwitch hardware", BLACK, hardware),
        ("OVS-DPDK, one core", RED, points(rows, |r| r.peer)),
    ];
    let top = lines.iter().flat_map(|l| &l.2).map(|p| p.1).fold(40.0, f64::max) * 1.1;
    let area = SVGBackend::new(path, (900, 540)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("64-byte UDP packets forwarded by one core", ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(52)
        .build_cartesian_2d((1f64..1_200_000f64).log_scale(), 0f64..top)?;
    chart
        .configure_mesh()
        .x_desc("flows")
        .y_desc("Mpps")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    for (label, colour, points) in lines {
        if points.is_empty() {
            continue;
        }
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.clone(), style))?
            .label(label)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 24, y)], style));
        chart.draw_series(points.into_iter().map(|p| Circle::new(p, 3, colour.filled())))?;
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Size;

    #[test]
    fn the_curve_shows_what_was_measured() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("curve.svg");
        draw(&path, &[]).unwrap();
        assert!(!path.exists());
        let row = |flows| Row { mpps: Some(30.0), ..Row::new(SCENARIO, Size { flows, masks: 1 }) };
        draw(&path, &[row(1), row(60_000)]).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(svg.contains("eSwitch hardware") && !svg.contains("OVS-DPDK"));
    }
}
