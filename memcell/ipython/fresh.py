class Fresh: pass
