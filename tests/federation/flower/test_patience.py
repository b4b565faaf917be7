"""When a silent node is asked again."""

from toolkit.federation.flower.patience import Patience


def test_who_is_silent_is_told_by_what_the_others_took():
    patience = Patience()
    patience.asked = 20
    assert patience.seconds(3600) == 1800  # nobody has answered: half of the time
    for _ in range(17):
        patience.ended(100)
    assert patience.seconds(3600) == 1800
    patience.ended(900)  # 18 of 19 others
    assert patience.seconds(3600) == 300 and patience.seconds(400) == 200
    quick = Patience()
    quick.asked = 2
    quick.ended(1.5)
    assert quick.seconds(3600) == 60
    alone = Patience()
    alone.asked = 1
    assert alone.seconds(3600) == 1800


def test_nobody_waits_for_who_is_lost():
    patience = Patience()
    patience.asked = 4
    for _ in range(2):
        patience.ended(100)
    assert patience.seconds(3600) == 1800  # of three others
    patience.ended(None)
    assert patience.seconds(3600) == 300
