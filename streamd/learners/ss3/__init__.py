"""SS3 (Burdisso, Errecalde, Montes-y-Gomez 2019): texts classified by terms whose values explain the decision."""
