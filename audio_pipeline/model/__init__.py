"""The scikit-learn classifier: fitting, saving, loading, judging."""
