"""What the panels say of a card's calibrated Dice."""


def test_the_card_tells_how_the_expected_dice_was_calibrated():
    from RTUncertaintyLib.widgets.card_text import calibration_words

    card = {"outputs": {"structures": [{"name": "bladder"}]}, "calibration": {"volumes": None, "quality": None}}
    assert calibration_words(card) == "volumes not calibrated"
    card["calibration"]["quality"] = {"patients": 8, "level": 0.68}
    assert (
        calibration_words(card)
        == "volumes not calibrated; expected Dice calibrated on 8 patients, its interval is that of 68 %"
    )
