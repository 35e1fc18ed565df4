(** Why may the live set be kept as a handful of intervals that only hits touch?

    The live set is a queue of ascending, disjoint, closed intervals.  Between hits
    nothing is done.  At a hit the queue is first settled: while the front holds states
    that were cut by force before the hit, that part moves to the back, [max] further
    on.  Then the hit pulls: the front part that is far enough behind is dropped and
    the hit itself is pushed to the back.  Only the ends of the queue are touched.

    Proved: after each step the intervals have exactly the members of the live set of
    LiveSet.v, so the sparse form certifies the same cut. *)

From Coq Require Import Arith Bool List Lia.
From Seams Require Import Chunking Rule LiveSet.
Import ListNotations.

Definition intervals := list (nat * nat).

Definition member (b : nat) (live : intervals) : Prop :=
  exists i, In i live /\ fst i <= b <= snd i.

Section Intervals.
  Variables min normal max : nat.
  Hypothesis sizes : 1 <= min <= normal /\ normal <= max.
  Let sizes' : 1 <= min <= max := min_max_sizes _ _ _ sizes.

  (** * The program *)

  (** Apply the forced cuts that fall before [x]; [x] rounds are always enough. *)
  Fixpoint settle_fuel (x : nat) (live : intervals) (fuel : nat) : intervals :=
    match fuel, live with
    | S k, (a, z) :: rest =>
        if a + max <? x then
          if z + max <? x
          then settle_fuel x (rest ++ [(a + max, z + max)]) k
          else settle_fuel x ((x - max, z) :: rest ++ [(a + max, x - 1)]) k
        else live
    | _, _ => live
    end.
  Definition settle (x : nat) (live : intervals) : intervals := settle_fuel x live x.

  (** Drop the states that lie at least [reach] before the hit [c]. *)
  Fixpoint drop_reached (c reach : nat) (live : intervals) : intervals :=
    match live with
    | (a, z) :: rest =>
        if z + reach <=? c then drop_reached c reach rest
        else (Nat.max a (c + 1 - reach), z) :: rest
    | [] => []
    end.

  (** A hit at [c] pulls the states it reaches onto itself. *)
  Definition pull (c reach : nat) (live : intervals) : intervals :=
    match live with
    | (a, _) :: _ => if a + reach <=? c then drop_reached c reach live ++ [(c, c)] else live
    | [] => []
    end.

  (** Is the position [c], just pushed, the only state left? *)
  Definition only (c : nat) (live : intervals) : bool :=
    match live with [(a, _)] => a =? c | _ => false end.

  (** The sweep over recorded hits; the first certified cut, if any. *)
  Fixpoint sweep_hits (live : intervals) (record : list (nat * bool)) : option nat :=
    match record with
    | [] => None
    | (c, is_strict) :: rest =>
        let live' := pull c (need min normal is_strict) (settle c live) in
        if only c live' then Some c else sweep_hits live' rest
    end.

  Definition certify_sparse (record : list (nat * bool)) (p : nat) : option nat :=
    sweep_hits [(p - max, p - 1)] record.

  (** * Order: what makes the ends of the queue enough *)

  (** Intervals are not empty, disjoint, ascending, and begin at or after [lo]. *)
  Fixpoint ascends (lo : nat) (live : intervals) : Prop :=
    match live with
    | [] => True
    | (a, z) :: rest => lo <= a <= z /\ ascends (S z) rest
    end.

  Definition all_below (hi : nat) (live : intervals) : Prop := Forall (fun i => snd i < hi) live.

  (** At time [x] all live states lie in [lo, lo + max) and before [x]. *)
  Definition ordered (lo x : nat) (live : intervals) : Prop :=
    ascends lo live /\ all_below (lo + max) live /\ all_below x live.

  Lemma ascends_weaken : forall live lo lo', lo' <= lo -> ascends lo live -> ascends lo' live.
  Proof. intros [|[a z] rest]; simpl; [easy|]. intuition lia. Qed.

  Lemma all_below_weaken : forall live hi hi', hi <= hi' -> all_below hi live -> all_below hi' live.
  Proof. intros live hi hi' L. apply Forall_impl. intros. lia. Qed.

  Lemma ascends_snoc : forall live lo a z,
    ascends lo live -> all_below a live -> lo <= a <= z -> ascends lo (live ++ [(a, z)]).
  Proof.
    induction live as [|[a' z'] rest IH]; intros lo a z A B L; simpl in *; [easy|].
    inversion B as [|? ? B1 B2]; subst. simpl in B1.
    split; [easy|]. apply IH; trivial; [easy|lia].
  Qed.

  Lemma all_below_snoc : forall live hi a z, all_below hi live -> z < hi -> all_below hi (live ++ [(a, z)]).
  Proof. intros. apply Forall_app. split; trivial. now repeat constructor. Qed.

  Lemma ascends_member : forall live lo b, ascends lo live -> member b live -> lo <= b.
  Proof.
    induction live as [|[a z] rest IH]; intros lo b A (i & I & R); simpl in A; [easy|].
    destruct I as [<-|I]; simpl in *; [lia|].
    assert (S z <= b) by (apply IH; [easy|exists i; auto]). lia.
  Qed.

  Lemma all_below_member : forall live hi b, all_below hi live -> member b live -> b < hi.
  Proof.
    intros live hi b B (i & I & R). unfold all_below in B. rewrite Forall_forall in B.
    specialize (B _ I). simpl in B. lia.
  Qed.

  Lemma member_cons : forall b a z rest,
    member b ((a, z) :: rest) <-> a <= b <= z \/ member b rest.
  Proof.
    intros. split.
    - intros (i & [<-|I] & R); [now left|right; exists i; auto].
    - intros [R|(i & I & R)]; [exists (a, z); simpl; auto|exists i; simpl; auto].
  Qed.

  Lemma member_snoc : forall b live a z,
    member b (live ++ [(a, z)]) <-> member b live \/ a <= b <= z.
  Proof.
    intros. induction live as [|[a' z'] rest IH]; simpl app; rewrite !member_cons.
    - tauto.
    - rewrite IH. tauto.
  Qed.

  (** * Settling: forced cuts alone *)

  Definition forced_only : rule := fun b c => c =? b + max.

  Lemma forced_bounded : bounded min max forced_only.
  Proof.
    split; intros b; unfold forced_only; [intros c; rewrite Nat.eqb_eq; lia|apply Nat.eqb_refl].
  Qed.

  (** The last cut before [x] of a chunk that began at [b], when there are no hits. *)
  Definition forced (x b : nat) : nat := after forced_only b (S b) (x - S b).

  Lemma forced_stays : forall x b, x <= b + max -> forced x b = b.
  Proof.
    intros x b L. unfold forced. apply quiet. intros c Hc. apply Nat.eqb_neq. lia.
  Qed.

  Lemma forced_moves : forall x b, b + max < x -> forced x b = forced x (b + max).
  Proof.
    intros x b L. unfold forced.
    replace (x - S b) with ((max - 1) + S (x - S (b + max))) by lia.
    rewrite after_app. destruct (quiet forced_only (max - 1) b (S b)) as [_ ->].
    - intros c Hc. apply Nat.eqb_neq. lia.
    - replace (S b + (max - 1)) with (b + max) by lia. cbn [after].
      assert (M : step forced_only (b + max) b = b + max)
        by (unfold step, forced_only; now rewrite Nat.eqb_refl).
      now rewrite M.
  Qed.

  (** Without hits in [x0, x), a state of time [x0] is moved by force alone. *)
  Lemma no_hits_is_forced : forall h x0 k b, nested h ->
    (forall c, x0 <= c < x0 + k -> loose h c = false) -> b < x0 <= b + max ->
    after (plain min normal max h) b x0 k = forced (x0 + k) b.
  Proof.
    intros h x0 k b N Q R. unfold forced.
    replace (x0 + k - S b) with ((x0 - S b) + k) by lia.
    rewrite after_app. destruct (quiet forced_only (x0 - S b) b (S b)) as [_ ->].
    - intros c Hc. apply Nat.eqb_neq. lia.
    - replace (S b + (x0 - S b)) with x0 by lia. apply after_agree.
      intros a c Hc. now apply plain_no_hit; [|apply Q].
  Qed.

  (** Settling keeps the order and moves each state where force moves it. *)
  Lemma settle_fuel_spec : forall fuel x lo live,
    ordered lo x live -> x <= lo + fuel ->
    ordered (x - max) x (settle_fuel x live fuel)
    /\ forall c, member c (settle_fuel x live fuel) <-> exists b, member b live /\ forced x b = c.
  Proof.
    (* Where no state is stale, there is nothing to do. *)
    assert (Done : forall x lo live, ordered lo x live -> x <= lo + max ->
              ordered (x - max) x live
              /\ forall c, member c live <-> exists b, member b live /\ forced x b = c).
    { intros x lo live (A & B & C) L. split.
      - split; [|split]; trivial.
        + apply (ascends_weaken _ lo); trivial; lia.
        + apply (all_below_weaken _ x); trivial; lia.
      - intros c. split.
        + intros M. exists c. split; trivial. apply forced_stays.
          apply (ascends_member _ lo) in M; trivial. lia.
        + intros (b & M & <-). rewrite forced_stays; trivial.
          apply (ascends_member _ lo) in M; trivial. lia. }
    induction fuel as [|k IH]; intros x lo live O Fu.
    - simpl. apply (Done x lo); trivial. lia.
    - destruct live as [|[a z] rest]; simpl.
      { apply (Done x x); [|lia]. repeat split; constructor. }
      destruct O as (A & B & C). simpl in A. destruct A as (La & A).
      inversion B as [|? ? B1 B2]; inversion C as [|? ? C1 C2]; subst. simpl in B1, C1.
      destruct (Nat.ltb_spec (a + max) x) as [Stale|Fresh].
      + assert (Rest : all_below (a + max) rest) by (apply (all_below_weaken _ (lo + max)); trivial; lia).
        destruct (Nat.ltb_spec (z + max) x) as [All|Part].
        * (* the whole front interval is stale *)
          destruct (IH x (S z) (rest ++ [(a + max, z + max)])) as (O' & M); [|lia|].
          { split; [|split].
            - apply ascends_snoc; trivial. lia.
            - apply all_below_snoc; [|lia]. apply (all_below_weaken _ (a + max)); trivial; lia.
            - apply all_below_snoc; trivial. }
          split; [exact O'|]. intros c. rewrite M. split; intros (b & Mb & E).
          -- rewrite member_snoc in Mb. destruct Mb as [Mb|R].
             ++ exists b. rewrite member_cons. auto.
             ++ exists (b - max). rewrite member_cons. split; [left; lia|].
                rewrite forced_moves by lia. now replace (b - max + max) with b by lia.
          -- rewrite member_cons in Mb. destruct Mb as [R|Mb].
             ++ exists (b + max). rewrite member_snoc. split; [right; lia|].
                now rewrite <- forced_moves by lia.
             ++ exists b. rewrite member_snoc. auto.
        * (* its first part is stale *)
          destruct (IH x (x - max) ((x - max, z) :: rest ++ [(a + max, x - 1)])) as (O' & M); [|lia|].
          { split; [|split].
            - simpl. split; [lia|]. apply ascends_snoc; trivial. lia.
            - constructor; [simpl; lia|]. apply all_below_snoc; [|lia].
              apply (all_below_weaken _ (a + max)); trivial; lia.
            - constructor; [simpl; lia|]. apply all_below_snoc; trivial. lia. }
          split; [exact O'|]. intros c. rewrite M. split; intros (b & Mb & E).
          -- rewrite member_cons, member_snoc in Mb. destruct Mb as [R|[Mb|R]].
             ++ exists b. rewrite member_cons. split; [left; lia|assumption].
             ++ exists b. rewrite member_cons. auto.
             ++ exists (b - max). rewrite member_cons. split; [left; lia|].
                rewrite forced_moves by lia. now replace (b - max + max) with b by lia.
          -- rewrite member_cons in Mb. destruct Mb as [R|Mb].
             ++ destruct (le_lt_dec (x - max) b) as [L|L].
                ** exists b. rewrite member_cons. split; [left; lia|assumption].
                ** exists (b + max). rewrite member_cons, member_snoc. split; [right; right; lia|].
                   now rewrite <- forced_moves by lia.
             ++ exists b. rewrite member_cons, member_snoc. auto.
      + apply (Done x a); [|lia]. split; [|split].
        * simpl. split; [lia|assumption].
        * apply (all_below_weaken _ (lo + max)); [lia|assumption].
        * assumption.
  Qed.

  (** Settling refines: the intervals of an earlier time, brought to time [x]. *)
  Theorem settle_refines : forall x lo live, ordered lo x live ->
    ordered (x - max) x (settle x live)
    /\ forall c, member c (settle x live) <-> exists b, member b live /\ forced x b = c.
  Proof. intros x lo live O. apply (settle_fuel_spec x x lo); trivial. lia. Qed.

  (** * Pulling: one hit *)

  Lemma drop_reached_spec : forall c reach live lo, ascends lo live ->
    ascends (Nat.max lo (c + 1 - reach)) (drop_reached c reach live)
    /\ (forall hi, all_below hi live -> all_below hi (drop_reached c reach live))
    /\ forall b, member b (drop_reached c reach live) <-> member b live /\ c < b + reach.
  Proof.
    induction live as [|[a z] rest IH]; intros lo A; simpl.
    - split; [trivial|split; [trivial|]]. intros b. split; [now intros (i & [] & _)|tauto].
    - simpl in A. destruct A as (La & A). destruct (Nat.leb_spec (z + reach) c) as [L|L].
      + destruct (IH (S z) A) as (A' & B' & M). split; [|split].
        * apply (ascends_weaken _ (Nat.max (S z) (c + 1 - reach))); trivial. lia.
        * intros hi B. inversion B; subst. auto.
        * intros b. rewrite M, member_cons. split; [tauto|]. intros ([R|Mb] & U); [lia|auto].
      + split; [|split].
        * simpl. split; [lia|assumption].
        * intros hi B. inversion B; subst. now constructor.
        * intros b. rewrite !member_cons. split.
          -- intros [R|Mb]; [split; [left|]; lia|]. split; [auto|].
             apply (ascends_member _ (S z)) in Mb; trivial. lia.
          -- intros ([R|Mb] & U); [left; lia|auto].
  Qed.

  (** Pulling refines the step of the live set at a hit. *)
  Theorem pull_refines : forall c reach live, 1 <= reach <= max ->
    ordered (c - max) c live ->
    ordered (S c - max) (S c) (pull c reach live)
    /\ forall d, member d (pull c reach live) <->
         exists b, member b live /\ d = (if b + reach <=? c then c else b).
  Proof.
    intros c reach live Ge (A & B & C).
    assert (C' : all_below (S c) live) by (apply (all_below_weaken _ c); trivial; lia).
    assert (B' : all_below (S c - max + max) live) by (apply (all_below_weaken _ c); trivial; lia).
    destruct live as [|[a z] rest].
    { split; [repeat split; trivial|]. intros d. split; [now intros (i & [] & _)|now intros (b & (i & [] & _) & _)]. }
    unfold pull. destruct (Nat.leb_spec (a + reach) c) as [L|L].
    - destruct (drop_reached_spec c reach _ _ A) as (A' & D & M). split.
      + split; [|split].
        * apply ascends_snoc; [|auto|lia]. apply (ascends_weaken _ (Nat.max (c - max) (c + 1 - reach))); trivial. lia.
        * apply all_below_snoc; [auto|lia].
        * apply all_below_snoc; [auto|lia].
      + intros d. rewrite member_snoc, M. split.
        * intros [(Md & U)|R].
          -- exists d. split; trivial. now destruct (Nat.leb_spec (d + reach) c); [lia|].
          -- exists a. split; [rewrite member_cons; simpl in A; left; lia|].
             destruct (Nat.leb_spec (a + reach) c); lia.
        * intros (b & Mb & ->). destruct (Nat.leb_spec (b + reach) c); [right; lia|auto].
    - simpl in A. destruct A as (La & A).
      assert (A' : ascends a ((a, z) :: rest)) by (simpl; split; [lia|assumption]).
      assert (U : forall b, member b ((a, z) :: rest) -> c < b + reach).
      { intros b M. apply (ascends_member _ a) in M; trivial. lia. }
      split.
      + split; [|split]; trivial. apply (ascends_weaken _ a); trivial. lia.
      + intros d. split.
        * intros M. exists d. split; trivial. specialize (U _ M).
          now destruct (Nat.leb_spec (d + reach) c); [lia|].
        * intros (b & M & ->). specialize (U _ M). now destruct (Nat.leb_spec (b + reach) c); [lia|].
  Qed.

  (** One interval that is just [c] is left if and only if every member is [c]. *)
  Lemma only_spec : forall live lo c, ascends lo live -> all_below (S c) live -> live <> [] ->
    (only c live = true <-> forall b, member b live -> b = c).
  Proof.
    intros [|[a z] [|[a' z'] rest]] lo c A B Ne; [easy| |]; simpl in A |- *.
    - inversion B; subst. simpl in *. split.
      + rewrite Nat.eqb_eq. intros -> b M. rewrite member_cons in M.
        destruct M as [R|(i & [] & _)]. lia.
      + intros H. apply Nat.eqb_eq, H. rewrite member_cons. lia.
    - split; [easy|]. intros H. exfalso.
      assert (a = c) by (apply H; rewrite member_cons; lia).
      assert (a' = c) by (apply H; rewrite !member_cons; lia). lia.
  Qed.

  (** * The sweep: intervals at some earlier time [x0], live set at time [x] *)

  Section Refinement.
    Variable h : hits.
    Hypothesis Nested : nested h.
    Notation f := (plain min normal max h).

    (** The intervals, once settled to [x], have the members of the live set at [x]. *)
    Definition refines (x : nat) (live : intervals) (states : list nat) : Prop :=
      (exists x0, x0 <= x /\ ordered (x0 - max) x0 live)
      /\ forall c, In c states <-> exists b, member b live /\ forced x b = c.

    Lemma refines_settled : forall x live states, refines x live states ->
      ordered (x - max) x (settle x live)
      /\ forall c, In c states <-> member c (settle x live).
    Proof.
      intros x live states ((x0 & L & A & B & C) & M).
      destruct (settle_refines x (x0 - max) live) as (O & S).
      - split; [|split]; trivial. apply (all_below_weaken _ x0); trivial.
      - split; trivial. intros c. now rewrite M, S.
    Qed.

    Lemma state_range : forall x live states, refines x live states ->
      forall a, In a states -> a < x <= a + max.
    Proof.
      intros x live states R a I. destruct (refines_settled _ _ _ R) as ((A & _ & C) & M).
      apply M in I. pose proof (ascends_member _ _ _ A I). pose proof (all_below_member _ _ _ C I). lia.
    Qed.

    (** Between hits nothing is done. *)
    Lemma refines_quiet : forall x live states, refines x live states -> loose h x = false ->
      refines (S x) live (map (step f x) states).
    Proof.
      intros x live states R Q. pose proof (state_range _ _ _ R) as Range.
      assert (Step : forall a, step f x a = step forced_only x a).
      { intros a. unfold step, forced_only. now rewrite plain_no_hit. }
      destruct R as ((x0 & L & O) & M). split; [exists x0; split; [lia|assumption]|].
      assert (Move : forall b, member b live -> step f x (forced x b) = forced (S x) b).
      { intros b Mb. destruct O as (_ & _ & C). pose proof (all_below_member _ _ _ C Mb).
        rewrite Step. unfold forced. replace (S x - S b) with (S (x - S b)) by lia.
        rewrite after_last. now replace (S b + (x - S b)) with x by lia. }
      intros c. rewrite in_map_iff. split.
      - intros (a & <- & I). apply M in I. destruct I as (b & Mb & <-). exists b. split; [assumption|symmetry; auto].
      - intros (b & Mb & <-). exists (forced x b). split; [auto|]. apply M. eauto.
    Qed.

    (** At a hit: settle, then pull. *)
    Definition at_hit (x : nat) (live : intervals) : intervals :=
      pull x (need min normal (strict h x)) (settle x live).

    Lemma refines_hit : forall x live states, refines x live states -> loose h x = true ->
      states <> [] ->
      refines (S x) (at_hit x live) (map (step f x) states)
      /\ only x (at_hit x live) = all_at x (move_all (sure f) x states).
    Proof.
      intros x live states R H Ne. pose proof (state_range _ _ _ R) as Range.
      assert (Ge : 1 <= need min normal (strict h x) <= max) by (unfold need; destruct (strict h x); lia).
      destruct (refines_settled _ _ _ R) as (O & M).
      destruct (pull_refines x _ _ Ge O) as (O' & M'). fold (at_hit x live) in O', M'.
      assert (Members : forall c, In c (map (step f x) states) <-> member c (at_hit x live)).
      { intros c. rewrite in_map_iff, M'. split.
        - intros (a & <- & I). exists a. split; [now apply M|]. unfold step.
          rewrite plain_at_hit; trivial. now apply Range.
        - intros (a & Ma & ->). exists a. apply M in Ma. split; trivial. unfold step.
          rewrite plain_at_hit; trivial. now apply Range. }
      assert (Nonempty : at_hit x live <> []).
      { destruct states as [|a states]; [easy|]. intros E.
        assert (N : member (step f x a) (at_hit x live)) by (apply Members; now left).
        rewrite E in N. destruct N as (i & [] & _). }
      split.
      - split; [exists (S x); auto|]. intros c. rewrite Members.
        assert (Stays : forall b, member b (at_hit x live) -> forced (S x) b = b).
        { intros b Mb. apply forced_stays. destruct O' as (A & _).
          pose proof (ascends_member _ _ _ A Mb). lia. }
        split; [intros Mc; exists c; auto|]. intros (b & Mb & <-). now rewrite Stays.
      - apply eq_true_iff_eq. destruct O' as (A & _ & C).
        rewrite (only_spec _ _ _ A C Nonempty), move_all_sure, all_at_spec.
        split; intros All b I; apply All; now apply Members.
    Qed.

    (** Soundness of the sparse sweep, whatever the live set it starts from. *)
    Lemma sweep_hits_after : forall k x live states, refines x live states -> states <> [] ->
      forall c, sweep_hits live (hits_from h x k) = Some c ->
      x <= c < x + k /\ forall b, In b states -> after f b x (S c - x) = c.
    Proof.
      assert (Ne : forall x states, states <> [] -> map (step f x) states <> []) by (now intros x [|]).
      induction k as [|k IH]; intros x live states R NeS c E; [easy|].
      assert (Rest : forall live', refines (S x) live' (map (step f x) states) ->
                sweep_hits live' (hits_from h (S x) k) = Some c ->
                x <= c < x + S k /\ forall b, In b states -> after f b x (S c - x) = c).
      { intros live' R' E'. destruct (IH _ _ _ R' (Ne _ _ NeS) _ E') as (Rc & A). split; [lia|].
        intros b I. replace (S c - x) with (S (S c - S x)) by lia. apply A. now apply in_map. }
      rewrite hits_from_cons in E. destruct (loose h x) eqn:H.
      - destruct (refines_hit _ _ _ R H NeS) as (R' & O). simpl in E.
        fold (at_hit x live) in E. rewrite O in E.
        destruct (all_at x _) eqn:A; [|exact (Rest _ R' E)].
        injection E as <-. split; [lia|]. intros b I. replace (S x - x) with 1 by lia.
        rewrite move_all_sure, all_at_spec in A. apply A. cbn [after]. now apply in_map.
      - exact (Rest _ (refines_quiet _ _ _ R H) E).
    Qed.

    (** The sparse sweep finds what the sweep over positions finds. *)
    Lemma sweep_hits_exact : forall k x live states a1 a2, refines x live states ->
      In a1 states -> In a2 states -> a1 <> a2 ->
      sweep_hits live (hits_from h x k) = first_certified (sure f) states x k.
    Proof.
      induction k as [|k IH]; intros x live states a1 a2 R I1 I2 D; trivial.
      pose proof (state_range _ _ _ R) as Range.
      assert (Ne : states <> []) by (now intros ->).
      pose proof (in_map (step f x) _ _ I1) as J1. pose proof (in_map (step f x) _ _ I2) as J2.
      rewrite hits_from_cons. destruct (loose h x) eqn:H.
      - destruct (refines_hit _ _ _ R H Ne) as (R' & O). simpl. fold (at_hit x live). rewrite O.
        destruct (all_at x _) eqn:A; trivial. rewrite move_all_sure in A |- *.
        destruct (Nat.eq_dec (step f x a1) (step f x a2)) as [E|E]; [|exact (IH _ _ _ _ _ R' J1 J2 E)].
        (* two states met, at x; some other state is elsewhere *)
        assert (X : In x (map (step f x) states)).
        { unfold step in E, J1, J2. destruct (f a1 x); [exact J1|]. destruct (f a2 x); [exact J2|easy]. }
        destruct (Forall_Exists_dec (fun d => d = x) (fun d => Nat.eq_dec d x) (map (step f x) states))
          as [All|Some_].
        + rewrite Forall_forall in All. now rewrite (proj2 (all_at_spec _ _) All) in A.
        + apply Exists_exists in Some_. destruct Some_ as (d & Id & Dd). exact (IH _ _ _ _ _ R' Id X Dd).
      - (* force alone never makes two states meet *)
        assert (E : step f x a1 <> step f x a2).
        { pose proof (Range _ I1). pose proof (Range _ I2). unfold step.
          rewrite !plain_no_hit by trivial.
          destruct (Nat.eqb_spec x (a1 + max)), (Nat.eqb_spec x (a2 + max)); lia. }
        simpl. destruct (all_at x _) eqn:A.
        + rewrite move_all_sure, all_at_spec in A. rewrite (A _ J1), (A _ J2) in E. easy.
        + rewrite move_all_sure. exact (IH _ _ _ _ _ (refines_quiet _ _ _ R H) J1 J2 E).
    Qed.

    Lemma refines_before : forall p, 1 <= p -> refines p [(p - max, p - 1)] (before max p).
    Proof.
      intros p L. split.
      - exists p. split; trivial. split; [|split]; simpl; [lia|..]; repeat constructor; simpl; lia.
      - intros c. rewrite in_before. split.
        + intros R. exists c. rewrite member_cons. split; [left; lia|]. apply forced_stays. lia.
        + intros (b & M & <-). rewrite member_cons in M. destruct M as [R|(i & [] & _)].
          rewrite forced_stays; lia.
    Qed.
  End Refinement.

  (** ** The sparse form is sound *)
  Theorem certify_sparse_sound : forall h p e c, nested h ->
    certify_sparse (recorded h p e) p = Some c ->
    forall o, o < p -> p <= c < e /\ cut_of min max (plain min normal max h) o c.
  Proof.
    intros h p e c N E o L. unfold recorded in E.
    destruct (sweep_hits_after h N _ _ _ _ (refines_before p ltac:(lia))
                ltac:(intros Z; apply (in_nil (a := p - 1)); rewrite <- Z; apply in_before; lia) _ E)
      as (R & A).
    split; [lia|]. assert (B := plain_bounded _ _ _ sizes h).
    pose proof (last_cut_exists _ _ sizes' _ B o p L) as La.
    apply (cut_of_iff_after _ _ sizes' _ B o p _ c La); [lia|].
    apply A, in_before. exact (last_cut_near _ _ sizes' _ B _ _ _ La).
  Qed.

  (** ** The sparse form equals the specification

      Two states at least are needed at the start: a maximum and a seek point of 2 or
      more.  (Below that the specification may certify a forced cut, which the sparse
      form, touching hits only, never does; it stays sound.) *)
  Theorem certify_sparse_exact : forall h p e, nested h -> 2 <= max -> 2 <= p ->
    certify_sparse (recorded h p e) p = certify (plain min normal max h) max p e.
  Proof.
    intros h p e N Two L. unfold certify_sparse, recorded, certify, certify_by.
    apply (sweep_hits_exact h N _ _ _ _ (p - 1) (p - 2));
      [apply refines_before; lia| | |lia]; apply in_before; lia.
  Qed.
End Intervals.
