(** What if the hash restarts at the chunk's minimum, as in the [fastcdc] crate?

    Two questions.  First, what a window knows: the gear hash modulo [2^m] depends on
    the last [m] bytes alone.  So where the hash is warm (profiles default, scaled, xet,
    for their minimum is no less than the window) hits are predicates on positions, as
    Rule.v has it; and where it restarts, they are from the first full window on.

    Second, the restarting rule: a chunk that began at [b] tests at [c] the hash of the
    bytes from [b + min] to [c], [c] included.  For the first [w - 1] positions this
    depends on [b].  Testing those directly and taking the rest from recorded hits is
    the same rule, hence all of Stitch.v holds for it. *)

From Coq Require Import Arith Bool List Lia NArith.
From Seams Require Import Chunking Rule LiveSet Queue Ranges Stitch.
Import ListNotations.

(** * The gear hash *)

Section Gear.
  (** [value i]: what the table gives for the byte at [i]. *)
  Variable value : nat -> N.
  (** Bits of a hash; 64 in the program. *)
  Variable w : nat.

  Local Open Scope N_scope.
  Notation pow k := (2 ^ N.of_nat k).

  (** The hash [h] fed with the [k] bytes from [i] on: each step shifts, adds, wraps. *)
  Fixpoint gear (h : N) (i k : nat) : N :=
    match k with
    | O => h
    | S j => gear ((2 * h + value i) mod pow w) (S i) j
    end.

  (** The same without wrapping. *)
  Fixpoint unbounded (h : N) (i k : nat) : N :=
    match k with
    | O => h
    | S j => unbounded (2 * h + value i) (S i) j
    end.

  Lemma unbounded_linear : forall k h i, unbounded h i k = pow k * h + unbounded 0 i k.
  Proof.
    induction k as [|k IH]; intros h i; [change (h = 1 * h + 0); lia|].
    cbn [unbounded]. rewrite (IH (2 * h + value i)), (IH (2 * 0 + value i)).
    rewrite Nat2N.inj_succ, N.pow_succ_r'. ring.
  Qed.

  Lemma pow_nonzero : forall k, pow k <> 0.
  Proof. intros. now apply N.pow_nonzero. Qed.

  (** [2^m] divides [2^k]. *)
  Lemma pow_split : forall m k, (m <= k)%nat -> pow k = pow (k - m) * pow m.
  Proof. intros m k L. rewrite <- N.pow_add_r. f_equal. lia. Qed.

  Lemma mod_mod_pow : forall m x, (m <= w)%nat -> (x mod pow w) mod pow m = x mod pow m.
  Proof.
    intros m x L. rewrite (N.div_mod' x (pow w)) at 2.
    generalize (x / pow w), (x mod pow w). intros q r.
    replace (pow w * q + r) with (r + (pow (w - m) * q) * pow m) by (rewrite (pow_split m w L); ring).
    now rewrite N.mod_add by apply pow_nonzero.
  Qed.

  Lemma gear_unbounded : forall m k h i, (m <= w)%nat ->
    gear h i k mod pow m = unbounded h i k mod pow m.
  Proof.
    intros m k. induction k as [|k IH]; intros h i L; trivial.
    cbn [gear unbounded]. rewrite IH by assumption.
    rewrite unbounded_linear, (unbounded_linear k (2 * h + value i)).
    rewrite (N.add_mod (pow k * _)), (N.mul_mod (pow k)) by apply pow_nonzero.
    rewrite mod_mod_pow by assumption.
    now rewrite <- N.mul_mod, <- N.add_mod by apply pow_nonzero.
  Qed.

  (** After [m] bytes, the low [m] bits know nothing of the hash before. *)
  Theorem gear_forgets : forall m k h h' i, (m <= w)%nat -> (m <= k)%nat ->
    gear h i k mod pow m = gear h' i k mod pow m.
  Proof.
    intros m k h h' i Lw Lk. rewrite !gear_unbounded by assumption.
    rewrite (unbounded_linear k h), (unbounded_linear k h'), (pow_split m k Lk).
    generalize (unbounded 0 i k). intros u.
    assert (E : forall x, (pow (k - m) * pow m * x + u) mod pow m = u mod pow m).
    { intros x. replace (pow (k - m) * pow m * x + u) with (u + (pow (k - m) * x) * pow m) by ring.
      now rewrite N.mod_add by apply pow_nonzero. }
    now rewrite !E.
  Qed.

  Lemma gear_app : forall j k h i, gear h i (j + k) = gear (gear h i j) (i + j)%nat k.
  Proof.
    induction j as [|j IH]; intros k h i; simpl; [now rewrite Nat.add_0_r|].
    now rewrite IH, Nat.add_succ_r.
  Qed.

  (** So they are a function of the last [m] bytes: a mask inside the low [m] bits has a
      window of [m] bytes (32 for the default masks, 64 for xet's top bits). *)
  Theorem gear_window : forall m k h i, (m <= w)%nat -> (m <= k)%nat ->
    gear h i k mod pow m = gear 0 (i + k - m)%nat m mod pow m.
  Proof.
    intros m k h i Lw Lk. replace k with ((k - m) + m)%nat at 1 by lia.
    rewrite gear_app. replace (i + k - m)%nat with (i + (k - m))%nat by lia.
    now apply gear_forgets.
  Qed.

  Lemma gear_wrapped : forall k h i, h < pow w -> gear h i k mod pow w = gear h i k.
  Proof.
    intros k h i H. apply N.mod_small. revert h i H.
    induction k as [|k IH]; intros h i H; [assumption|].
    simpl. apply IH, N.mod_lt, pow_nonzero.
  Qed.

  (** The whole hash is a function of the last [w] bytes. *)
  Corollary gear_full_window : forall k i, (w <= k)%nat ->
    gear 0 i k = gear 0 (i + k - w)%nat w.
  Proof.
    intros k i L. assert (P : 0 < pow w) by (pose proof (pow_nonzero w); lia).
    rewrite <- (gear_wrapped k 0 i P), <- (gear_wrapped w 0 _ P). now apply gear_window.
  Qed.
End Gear.

(** * The restarting rule *)

Section Restarting.
  Variables min normal max : nat.
  Hypothesis sizes : 1 <= min <= normal /\ normal <= max.
  Let sizes' : 1 <= min <= max := min_max_sizes _ _ _ sizes.

  (** The table's values of the file's bytes, the bits of a hash, and the two masks'
      tests.  The masks need not nest. *)
  Variable value : nat -> N.
  Variable w : nat.
  Variables pass_strict pass_loose : N -> bool.
  (** The file ends at [n]. *)
  Variable n : nat.

  (** The crate tests positions in pairs: where [n - b] is odd, [n - 1] is left out. *)
  Definition odd_one_out (b c : nat) : bool := (S c =? n) && Nat.odd (n - b).

  (** What counts at a length: the strict test below [normal], the loose one from there. *)
  Definition passes (b c : nat) (hash : N) : bool :=
    if c <? b + normal then pass_strict hash else pass_loose hash.

  (** The rule of the crate: the hash begins at [b + min] and takes the byte at [c] in. *)
  Definition restarting : rule := fun b c =>
    (c =? b + max)
    || ((b + min <=? c) && (c <? b + max) && negb (odd_one_out b c)
        && passes b c (gear value w 0 (b + min) (S c - (b + min)))).

  (** What a scan records: the full-window hash at [c], tested by both masks. *)
  Definition full_hits : hits := {|
    strict c := pass_strict (gear value w 0 (S c - w) w);
    loose c := pass_loose (gear value w 0 (S c - w) w)
  |}.

  (** Is the window at [c] not yet full, for a chunk that began at [b]? *)
  Definition early (b c : nat) : bool := S c <? b + min + w.

  (** The replay: early positions tested on the bytes, later ones taken from recorded
      hits. *)
  Definition replayed (h : hits) : rule := fun b c =>
    (c =? b + max)
    || ((b + min <=? c) && (c <? b + max) && negb (odd_one_out b c)
        && (if early b c then passes b c (gear value w 0 (b + min) (S c - (b + min)))
            else if c <? b + normal then strict h c else loose h c)).

  Lemma replayed_bounded : forall h, bounded min max (replayed h).
  Proof.
    intros h. split; intros b; unfold replayed.
    - intros c. rewrite orb_true_iff, !andb_true_iff, Nat.eqb_eq, Nat.leb_le. lia.
    - now rewrite Nat.eqb_refl.
  Qed.

  (** Replay with the first window tested directly is the restarting rule. *)
  Theorem replay_equals_restarting : forall b c, replayed full_hits b c = restarting b c.
  Proof.
    intros b c. unfold replayed, restarting, early, passes.
    destruct (Nat.ltb_spec (S c) (b + min + w)) as [|Full]; [reflexivity|].
    destruct (Nat.leb_spec (b + min) c) as [Far|]; [|reflexivity].
    rewrite (gear_full_window value w (S c - (b + min)) (b + min)) by lia.
    replace (b + min + (S c - (b + min)) - w) with (S c - w) by lia.
    reflexivity.
  Qed.

  Lemma restarting_bounded : bounded min max restarting.
  Proof.
    destruct (replayed_bounded full_hits) as [Late Max]. split.
    - intros b c. rewrite <- replay_equals_restarting. apply Late.
    - intros b. rewrite <- replay_equals_restarting. apply Max.
  Qed.

  (** A worker records the full-window hits of its segment; early positions it tests on
      the bytes. *)
  Definition own_restarting (s e : nat) : rule := replayed (within s e full_hits).

  Lemma own_restarting_view : forall s e, view min max restarting (own_restarting s e) s e.
  Proof.
    intros s e. split.
    - apply replayed_bounded.
    - intros b c [L U]. rewrite <- replay_equals_restarting. unfold own_restarting, replayed.
      apply Nat.leb_le in L. apply Nat.ltb_lt in U. simpl. now rewrite L, U.
    - intros b c _. rewrite <- replay_equals_restarting. unfold own_restarting, replayed. simpl.
      rewrite !orb_true_iff, !andb_true_iff.
      destruct (early b c), (c <? b + normal); rewrite ?andb_true_iff; tauto.
  Qed.

  (** ** Stitched = serial for the restarting rule *)

  (** Workers certify with the live set of this rule (early positions tested for each
      live state), over as much of the segment as they like, or give up. *)
  Theorem restarting_stitched_equals_serial : forall certified o seeks,
    (forall s e c, certified s e = Some c ->
       exists e', e' <= e /\ certify (own_restarting s e) max s e' = Some c) ->
    stitched (put_certified min max own_restarting certified)
             (fun s e => list_from min max own_restarting s s e) o n seeks
    = serial min max restarting o n.
  Proof.
    intros certified o seeks. apply certified_stitching.
    - exact sizes'.
    - exact restarting_bounded.
    - exact own_restarting_view.
  Qed.

  (** Workers guess a cut; the seam is replayed until it meets the worker's list. *)
  Theorem restarting_joined_equals_serial : forall guess o seeks,
    stitched (put_joined min max own_restarting guess)
             (fun s e => list_from min max own_restarting s s e) o n seeks
    = serial min max restarting o n.
  Proof.
    intros guess o seeks. apply joined_stitching.
    - exact sizes'.
    - exact restarting_bounded.
    - exact own_restarting_view.
  Qed.

  (** ** The queue, pulled by ranges *)

  (** The states that position [x] pulls: those whose early hash passes here, one by
      one; and by the full window, those far enough behind for the test that counts.
      ([S x - (min + w - 1)] is the first state for which [x] is early, [x - min] the
      last that tests [x] at all.) *)
  Definition full_from : nat := min + w - 1.
  Definition early_ranges (x : nat) : list range :=
    map (fun b => (b, b))
        (filter (fun b => early b x && (b + min <=? x)
                          && passes b x (gear value w 0 (b + min) (S x - (b + min))))
                (seq 0 x)).
  Definition full_ranges (x : nat) : list range :=
    (if loose full_hits x && (Nat.max normal full_from <=? x)
     then [(0, x - Nat.max normal full_from)] else [])
    ++ (if strict full_hits x && (full_from <=? x) then [(x + 1 - normal, x - full_from)] else []).
  Definition ranges (x : nat) : list range := early_ranges x ++ full_ranges x.

  (** These ranges, with the forced cuts, are the rule, but for the file's last position,
      which is left out of the sweep. *)
  Theorem ranges_are_restarting : 1 <= w -> forall p e, e < n ->
    ranges_are_rule max restarting ranges p e.
  Proof.
    intros Gw p e Le x b Rx Rb. rewrite <- replay_equals_restarting. unfold replayed.
    assert (Odd : odd_one_out b x = false).
    { unfold odd_one_out. destruct (Nat.eqb_spec (S x) n); simpl; trivial. lia. }
    rewrite Odd. destruct (Nat.eqb_spec x (b + max)) as [|Nm]; simpl; trivial.
    replace (x <? b + max) with true by (symmetry; apply Nat.ltb_lt; lia).
    rewrite !andb_true_r.
    (* The early ranges pull b just if its early hash passes. *)
    assert (E : pulled_by (early_ranges x) b
                = early b x && (b + min <=? x) && passes b x (gear value w 0 (b + min) (S x - (b + min)))).
    { apply eq_true_iff_eq. unfold pulled_by, early_ranges. rewrite existsb_exists. split.
      - intros (r & I & P). apply in_map_iff in I. destruct I as (b' & <- & I).
        apply in_range_spec in P. simpl in P. replace b' with b in I by lia.
        now apply filter_In in I.
      - intros P. exists (b, b). split; [|apply in_range_spec; simpl; lia].
        apply in_map_iff. exists b. split; trivial. apply filter_In. split; trivial.
        apply in_seq. lia. }
    (* The full ranges pull b just if the window is full and the test that counts passes. *)
    assert (F : pulled_by (full_ranges x) b
                = negb (early b x) && (if x <? b + normal then strict full_hits x else loose full_hits x)).
    { unfold pulled_by, full_ranges, early. rewrite existsb_app.
      destruct (strict full_hits x), (loose full_hits x); simpl;
        destruct (Nat.leb_spec (Nat.max normal full_from) x), (Nat.leb_spec full_from x); simpl;
        unfold in_range, full_from in *; simpl;
        destruct (Nat.ltb_spec (S x) (b + min + w)), (Nat.ltb_spec x (b + normal)); simpl;
        repeat match goal with |- context [?a <=? ?c] => destruct (Nat.leb_spec a c) end;
        simpl; trivial; lia. }
    unfold ranges, pulled_by. rewrite existsb_app.
    change (existsb (in_range b) (early_ranges x)) with (pulled_by (early_ranges x) b).
    change (existsb (in_range b) (full_ranges x)) with (pulled_by (full_ranges x) b).
    rewrite E, F. destruct (early b x) eqn:Ea; simpl.
    - now rewrite orb_false_r.
    - replace (b + min <=? x) with true; trivial. symmetry. apply Nat.leb_le.
      unfold early in Ea. apply Nat.ltb_ge in Ea. lia.
  Qed.

  (** Stitched = serial when workers certify with the queue pulled by those ranges, over
      their segment without the file's last position. *)
  Theorem restarting_queue_equals_serial : 1 <= w -> forall o seeks,
    stitched (put_certified min max own_restarting
                (fun s e => let e' := Nat.min e (n - 1) in
                            if s <=? e' then sweep_events max [(s - max, s - 1)]
                                               (events_from ranges s (e' - s)) e'
                            else None))
             (fun s e => list_from min max own_restarting s s e) o n seeks
    = serial min max restarting o n.
  Proof.
    intros Gw o seeks. apply sound_stitching.
    - exact sizes'.
    - exact restarting_bounded.
    - exact own_restarting_view.
    - intros s e c R. cbv zeta. destruct (Nat.leb_spec s (Nat.min e (n - 1))) as [L|]; [|easy].
      intros C.
      destruct (sweep_events_sound _ _ sizes' _ restarting_bounded ranges s (Nat.min e (n - 1)) c) with (o := o)
        as (y & Ry & La); trivial.
      + apply ranges_are_restarting; trivial. lia.
      + lia.
      + exists y. split; [lia|assumption].
  Qed.

  (** ** If early positions are not tested *)

  (** Then a state may or may not be cut while its window is not full.  Keeping both
      possibilities is sound ... *)
  Definition unsure (x b : nat) : list nat :=
    if x =? b + max then [x]
    else if (b + min <=? x) && early b x then [b; x]
    else [step restarting x b].

  Lemma unsure_covers : forall x b, In (step restarting x b) (unsure x b).
  Proof.
    intros x b. unfold unsure, step.
    destruct (Nat.eqb_spec x (b + max)) as [->|].
    - rewrite (fires_at_max _ _ _ restarting_bounded). now left.
    - destruct ((b + min <=? x) && early b x); [|now left].
      destruct (restarting b x); simpl; auto.
  Qed.

  Theorem unsure_sound : forall p e c, certify_by unsure max p e = Some c ->
    exists y, p <= y <= e /\ forall o, o < p -> last_cut_before min max restarting o y c.
  Proof. apply (certify_by_sound _ _ sizes' _ restarting_bounded), unsure_covers. Qed.

  (** ... but useless: it never certifies anything, whatever the bytes are.  Each state
      brings up another one a minimum later, and no hit reaches both. *)
  Theorem unsure_never_certifies : 2 <= w -> min < max -> forall p e, max <= p ->
    certify_by unsure max p e = None.
  Proof.
    intros Gw Room p e Lp. unfold certify_by.
    (* At x, the states from x - min - 1 on all live. *)
    assert (G : forall k x live, p <= x -> (forall b, b < x <= b + min + 1 -> In b live) ->
              first_certified unsure live x k = None).
    { induction k as [|k IH]; intros x live Lx All; trivial. simpl.
      assert (Stay : forall b, x - min <= b < x -> In b (move_all unsure x live)).
      { intros b Rb. apply in_flat_map. exists b. split; [apply All; lia|].
        unfold unsure, early. destruct (Nat.eqb_spec x (b + max)); [lia|].
        destruct (Nat.leb_spec (b + min) x), (Nat.ltb_spec (S x) (b + min + w)); simpl; auto; try lia.
        left. unfold step. destruct (restarting b x) eqn:T; trivial.
        apply (fires_late _ _ _ restarting_bounded) in T. lia. }
      assert (New : In x (move_all unsure x live)).
      { apply in_flat_map. exists (x - min). split; [apply All; lia|].
        unfold unsure, early. destruct (Nat.eqb_spec x (x - min + max)); [lia|].
        replace (x - min + min) with x by lia. rewrite Nat.leb_refl.
        replace (S x <? x + w) with true by (symmetry; apply Nat.ltb_lt; lia). simpl. auto. }
      destruct (one_left _) eqn:O.
      - apply one_left_spec in O. destruct O as [_ O].
        pose proof (O _ New). pose proof (O _ (Stay (x - 1) ltac:(lia))). lia.
      - apply IH; [lia|]. intros b Rb.
        destruct (Nat.eq_dec b x) as [->|]; [assumption|apply Stay; lia]. }
    apply G; trivial. intros b Rb. apply in_before. lia.
  Qed.
End Restarting.
