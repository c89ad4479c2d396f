from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from everyflop.train.png import png


def test_text_is_no_mathematics():
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([0, 1], label="$b$")
    axes.legend()
    axes.set_xlabel("cost ($\\x$)")

    assert png(figure).startswith(b"\x89PNG")
