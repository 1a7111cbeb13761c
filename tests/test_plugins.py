"""The plugins: a function is given what it names."""

from sextant import plugins


def test_a_function_is_called_with_what_it_asks_for_and_no_more():
    def fit(train, columns, net):
        return train, columns, net

    assert plugins.call(fit, 1, 2, net=3, encoder=4) == (1, 2, 3)
    assert plugins.call(lambda train, columns: train + columns, 1, 2, net=3) == 3
