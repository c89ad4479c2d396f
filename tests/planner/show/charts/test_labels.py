import re

from hypothesis import given
from hypothesis import strategies as st

from everyflop.planner.show.charts.labels import point_labels
from everyflop.planner.show.charts.svg import text_width

ROOM = (0.0, 0.0, 500.0, 300.0)
points_in_room = st.lists(st.tuples(st.floats(0, 500), st.floats(0, 300)), min_size=1, max_size=15)


def boxes(labels: list[str]) -> list[tuple[float, float, float, float]]:
    """Return where labels stand, as a browser places them: left, top, right, bottom."""
    found = []
    for label in labels:
        x, y, anchor, words = re.match(r'<text x="(.*?)" y="(.*?)" text-anchor="(\w+)".*?>(.*?)<', label).groups()
        left = float(x) - {"start": 0, "middle": text_width(words) / 2, "end": text_width(words)}[anchor]
        found.append((left, float(y) - 11, left + text_width(words), float(y) + 3))
    return found


def apart(one, other, gap: float = 0.2) -> bool:
    """Say whether two boxes do not meet, but for what rounding does."""
    across = one[2] <= other[0] + gap or other[2] <= one[0] + gap
    return across or one[3] <= other[1] + gap or other[3] <= one[1] + gap


def test_a_lonely_point_is_labelled_to_its_right():
    (label,) = point_labels(["a + d"], [(100, 100)], [], ROOM)

    assert boxes([label])[0][0] == 111


def test_a_point_at_the_edge_is_labelled_inside():
    (label,) = point_labels(["a + d"], [(490, 100)], [], ROOM)

    assert boxes([label])[0][2] < 490


@given(points_in_room)
def test_labels_never_hide_each_other_or_a_point(points):
    found = boxes(point_labels([str(n) for n in range(len(points))], points, [], ROOM))

    marks = [(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    assert all(apart(box, other) for n, box in enumerate(found) for other in found[:n])
    assert all(apart(box, mark) for box in found for mark in marks)


def test_a_label_keeps_clear_of_the_line():
    (label,) = point_labels(["name"], [(100, 100)], [(100, 100), (200, 100)], ROOM)

    assert apart(boxes([label])[0], (100, 99, 200, 101))


def test_a_label_without_room_is_left_out():
    crowd = [(100.0 + dx, 100.0 + dy) for dx in range(-30, 31, 10) for dy in range(-30, 31, 10)]

    labels = point_labels([str(n) for n in range(len(crowd))], crowd, [], ROOM)

    assert len(labels) < len(crowd)
