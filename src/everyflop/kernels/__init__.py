"""Operations with a plain reference each and fast versions beside it; `select` says which runs and why."""
